"""What a dataset is: raw rows, and which of their columns mean what."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from funrec.data.expressions import Expression, parse_expression
from funrec.errors import InputError, did_you_mean
from funrec.schema import Feature, Task, build_features, build_tasks

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


class Dataset(ABC):
    """Raw rows, and which of their columns are features, labels, group, item and time.

    A concrete dataset says where its rows come from (`scan`) and which files they are in (`sources`);
    `funrec.data.prepare` does the rest alike for all.

    Args:
        features: Features by name; see `funrec.schema.Feature`.
        tasks: Tasks by name; see `funrec.schema.Task`.
        split: The split rule's keys; see `SplitRule`.
        group: Column of the user (or other group) that GAUC is computed within; none for no GAUC.
        item: Column of the item; none if there is none.
        time: Column that orders rows in time; none if there is none.
        where: SQL condition that a row must meet to be used at all.
        row_weight: Column or SQL expression of a row's weight in the loss; metrics never read it.
        max_rows: Use the first `max_rows` rows (after `where`) only.
        drop: Names of features to leave out.
        downsample: `{task, rate}`: keep this share of the training rows where the task's label is 0.

    Raises:
        InputError: If any of these is not what it should be.
    """

    #: Columns that must not be features, with the reason.
    leaky: Mapping[str, str] = {}
    #: Columns of true probabilities by task name, where a dataset knows them.
    oracle: Mapping[str, str] = {}

    def __init__(
        self,
        *,
        features: Mapping[str, Any],
        tasks: Mapping[str, Any],
        split: Mapping[str, Any],
        group: str | None = None,
        item: str | None = None,
        time: str | None = None,
        where: str | None = None,
        row_weight: str | None = None,
        max_rows: int | None = None,
        drop: Sequence[str] = (),
        downsample: Mapping[str, Any] | None = None,
    ) -> None:
        drop = [drop] if isinstance(drop, str) else list(drop or ())
        for name in drop:
            if name not in features:
                raise InputError(f"dataset.drop: no feature {name}.{did_you_mean(name, features)}")
        self.features: tuple[Feature, ...] = build_features(
            {name: value for name, value in features.items() if name not in set(drop)}
        )
        if not self.features:
            raise InputError("dataset.features should name at least one feature. Received: none.")
        self.tasks: tuple[Task, ...] = build_tasks(tasks)
        self.split = build_split(split)
        self.group = group
        self.item = item
        self.time = time
        self.where = where
        self.row_weight = row_weight
        if max_rows is not None and (isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1):
            raise InputError(f"dataset.max_rows should be a positive whole number. Received: {max_rows}.")
        self.max_rows = max_rows
        self.downsample = build_downsample(downsample, self.tasks)

    @abstractmethod
    def sources(self) -> list[Path]:
        """Return the raw files that the rows come from, which must exist; empty for generated rows."""

    @abstractmethod
    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        """Return the raw rows, lazily, with at least `columns`.

        The key `all` is divided by the split rule; `train`, `valid` and `test` are taken as they are; any
        other key is a further evaluation split (`random`: KuaiRand's randomly exposed rows). Rows must keep
        their order from one call to the next.

        Args:
            columns: Raw columns that features, labels, conditions, group, item, time and split name.
            workdir: A folder that exists until preparation ends, for datasets that write their rows first.

        Raises:
            InputError: If a file or a column is missing, with the nearest name.
        """

    def available_columns(self) -> list[str] | None:
        """Return every raw column's name where that is known without reading rows, else none.

        It lets a label name a column that SQL would read otherwise (`marital-status`), and a typo find its
        nearest name.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Return what, besides the arguments of `Dataset`, determines the rows: it enters the fingerprint.

        By default every public attribute of a subclass that is a plain value; the raw files are not among them,
        since their path, size and modification time are in the fingerprint anyway.
        """
        own = {key: value for key, value in vars(self).items() if not key.startswith("_") and key not in _BASE_KEYS}
        return {key: _plain(value) for key, value in sorted(own.items()) if _is_plain(value)}

    def source_name(self) -> str:
        """Return what to call the raw rows in a message: the first file, or the dataset's class."""
        files = self.sources()
        if not files:
            return f"the rows of {type(self).__name__}"
        return files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")

    def parse(self, key: str, text: str) -> Expression:
        """Parse a column or an SQL expression found under the config key `key`.

        Raises:
            InputError: If it is neither.
        """
        return parse_expression(key, str(text), self.available_columns())

    def needed_columns(self) -> dict[str, str]:
        """Return every raw column that preparation reads, with the config key that asks for it.

        Raises:
            InputError: If an expression cannot be parsed.
        """
        needed: dict[str, str] = {}

        def ask(key: str, columns: Iterable[str]) -> None:
            for column in columns:
                needed.setdefault(column, key)

        for feature in self.features:
            suffix = "" if feature.column == feature.name else ".column"
            ask(f"dataset.features.{feature.name}{suffix}", [feature.column])
        for task in self.tasks:
            ask(f"dataset.tasks.{task.name}.label", self.parse(f"dataset.tasks.{task.name}.label", task.label).columns)
            if task.where is not None:
                key = f"dataset.tasks.{task.name}.where"
                ask(key, self.parse(key, task.where).columns)
        for key, expression in (("where", self.where), ("row_weight", self.row_weight)):
            if expression is not None:
                ask(f"dataset.{key}", self.parse(f"dataset.{key}", expression).columns)
        for key in ("group", "item", "time"):
            if getattr(self, key) is not None:
                ask(f"dataset.{key}", [getattr(self, key)])
        if self.split.column is not None:
            ask("dataset.split.column", [self.split.column])
        for task in self.tasks:
            if task.name in self.oracle:
                ask(f"the true probability of {task.name}", [self.oracle[task.name]])
        return needed

    def check_leaks(self) -> None:
        """Refuse features that would give a label away.

        Raises:
            InputError: If a feature reads a label's source column, or one that the dataset marks as leaky.
        """
        for feature in self.features:
            where = f"dataset.features.{feature.name}"
            for task in self.tasks:
                if feature.column in self.parse(f"dataset.tasks.{task.name}.label", task.label).columns:
                    raise InputError(
                        f"{where} should not be a label: task {task.name} is read from column {feature.column}. "
                        f"Drop the feature, dataset.drop=[{feature.name}]."
                    )
            if feature.column in self.leaky:
                raise InputError(
                    f"{where} should be known before the labels are. Column {feature.column} is not: "
                    f"{self.leaky[feature.column]}. Drop the feature, or set dataset.allow_leaky=true."
                )


_BASE_KEYS = frozenset(
    "features tasks split group item time where row_weight max_rows downsample leaky oracle allow_leaky".split()
)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | Path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


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
