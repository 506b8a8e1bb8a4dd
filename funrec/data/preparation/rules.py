"""How rows are divided into splits and thinned out, as a config says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import Name, Share, check, worded


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

    by: Literal["time", "group", "random", "column"] = "random"
    column: Name | None = None
    valid_from: Any = None
    valid: Share | None = None
    test_from: Any = None
    test: Share | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Downsample:
    """Which training rows are kept: all, except that of those where `task`'s label is 0 a share of `rate`."""

    task: Name
    rate: Annotated[float, worded("above 0 and at most 1", lambda rate: 0 < rate <= 1)]


def build_split(config: Mapping[str, Any]) -> SplitRule:
    """Turn `dataset.split` into a checked rule.

    Raises:
        InputError: If a key is unknown or a value is not what it should be.
    """
    rule = SplitRule(**check(SplitRule, config, "dataset.split", ignore_nulls=True))
    if (rule.valid or 0) + (rule.test or 0) >= 1:
        raise InputError(
            "dataset.split.valid and dataset.split.test should leave rows to train on. "
            f"Received: {rule.valid} + {rule.test}."
        )
    return rule


def build_downsample(config: Mapping[str, Any] | None, tasks: Sequence[Task]) -> Downsample | None:
    """Turn `dataset.downsample` into a checked value; none, or a rate of 1, means that every row is kept.

    Raises:
        InputError: If a key is unknown, the task is not a binary one, or the rate is not in (0, 1].
    """
    if not config or all(value is None for value in config.values()):
        return None
    rule = Downsample(**check(Downsample, config, "dataset.downsample", ignore_nulls=True))
    binary = [known.name for known in tasks if known.kind == "binary"]
    if rule.task not in binary:
        raise InputError(
            f"dataset.downsample.task should name a binary task. Received: {rule.task}."
            + did_you_mean(rule.task, binary)
        )
    return None if rule.rate == 1 else rule
