"""How rows are divided into splits and thinned out, as a config says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean

SPLIT_RULES = ("time", "group", "random", "column")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How the rows of one log are divided.

    Attributes:
        by: `time` (from `valid_from` on is validation, from `test_from` on is test), `group` (a share of
            the groups), `random` (a share of the rows) or `column` (a column that says train, valid or test).
        column: The column to split on; `dataset.time` or `dataset.group` where not given.
        valid_from: First value of the validation split, in the column's own terms.
        valid: Share of groups or rows in the validation split.
        test_from: First value of the test split; none for no test split.
        test: Share of groups or rows in the test split.
        seed: Which groups or rows fall where; also which negatives `dataset.downsample` keeps.
    """

    by: str = "random"
    column: str | None = None
    valid_from: Any = None
    valid: float | None = None
    test_from: Any = None
    test: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Downsample:
    """Which training rows are kept: all, except that of those where `task`'s label is 0 a share of `rate`."""

    task: str
    rate: float


def build_split(config: Mapping[str, Any]) -> SplitRule:
    """Turn `dataset.split` into a checked rule.

    Raises:
        InputError: If a key is unknown or a value is not what it should be.
    """
    known = [field.name for field in fields(SplitRule)]
    for key in config:
        if key not in known:
            raise InputError(f"dataset.split.{key}: no such key.{did_you_mean(key, known)}")
    rule = SplitRule(**{key: value for key, value in config.items() if value is not None})
    if rule.by not in SPLIT_RULES:
        raise InputError(
            f"dataset.split.by should be one of {', '.join(SPLIT_RULES)}. Received: {rule.by}."
            + did_you_mean(rule.by, SPLIT_RULES)
        )
    for key in ("valid", "test"):
        share = asdict(rule)[key]
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1):
            raise InputError(f"dataset.split.{key} should be a share between 0 and 1. Received: {share}.")
    if (rule.valid or 0) + (rule.test or 0) >= 1:
        raise InputError(
            "dataset.split.valid and dataset.split.test should leave rows to train on. "
            f"Received: {rule.valid} + {rule.test}."
        )
    if isinstance(rule.seed, bool) or not isinstance(rule.seed, int):
        raise InputError(f"dataset.split.seed should be a whole number. Received: {rule.seed}.")
    return rule


def build_downsample(config: Mapping[str, Any] | None, tasks: Sequence[Task]) -> Downsample | None:
    """Turn `dataset.downsample` into a checked value; none, or a rate of 1, means that every row is kept.

    Raises:
        InputError: If a key is unknown, the task is not a binary one, or the rate is not in (0, 1].
    """
    if not config or all(value is None for value in config.values()):
        return None
    for key in config:
        if key not in ("task", "rate"):
            raise InputError(f"dataset.downsample.{key}: no such key.{did_you_mean(key, ['task', 'rate'])}")
    task, rate = config.get("task"), config.get("rate")
    binary = [known.name for known in tasks if known.kind == "binary"]
    if task not in binary:
        raise InputError(
            f"dataset.downsample.task should name a binary task. Received: {task}.{did_you_mean(task, binary)}"
        )
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate) or not 0 < rate <= 1:
        raise InputError(f"dataset.downsample.rate should be above 0 and at most 1. Received: {rate}.")
    return None if rate == 1 else Downsample(task=str(task), rate=float(rate))
