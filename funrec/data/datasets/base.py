"""What a dataset is: raw rows, and which of their columns mean what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from funrec.config.inputs import build_features, build_tasks
from funrec.data.datasets.sources import Source
from funrec.data.domain import add_domain
from funrec.data.expressions import Expression, parse_expression
from funrec.data.features.history import HistorySettings, HistorySpec, split_histories
from funrec.data.features.history_log import needed_columns
from funrec.data.preparation.splitting import Downsample, SplitRule, build_downsample, build_split
from funrec.schema import Feature, Task
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import Name, Names, PositiveInt, check, spec_of


class Dataset(ABC):
    """Raw rows, and which of their columns are features, labels, group, item and time.

    A concrete dataset says where its rows come from (`scan`) and which files they are in (`sources`);
    `funrec.data.preparation.prepare` does the rest alike for all.

    Args:
        features: Features by name; see `funrec.schema.Feature`.
        tasks: Tasks by name; see `funrec.schema.Task`.
        split: The split rule's keys; see `SplitRule`.
        group: Column of the user (or other group) that GAUC is computed within; none for no GAUC.
        item: Column of the item; none if there is none.
        domain: Column of the row's domain, for backbones that treat domains differently; it is a feature too.
        time: Column that orders rows in time; none if there is none.
        where: SQL condition that a row must meet to be used at all.
        row_weight: Column or SQL expression of a row's weight in the loss; metrics never read it.
        max_rows: Use the first `max_rows` rows (after `where`) only.
        max_train_rows: Train on a sample of at most so many rows, drawn by `split.seed` after `downsample`.
        drop: Names of features and tasks to leave out.
        downsample: `{task, rate}`: keep this share of the training rows where the task's label is 0.
        history: How features of kind `history` look back; see `HistorySettings`.

    Raises:
        InputError: If any of these is not what it should be.
    """

    #: Columns that must not be features, since they are not known before the row's labels, with the reason.
    leaky: Mapping[str, str] = {}
    #: Those of them that must not be part of a history either: they know of more than their row.
    future_aggregates: Collection[str] = ()
    #: Columns of true probabilities by task name, where a dataset knows them.
    oracle: Mapping[str, str] = {}
    #: Column of the chance with which the logging policy chose the row's item, where that is known.
    propensity: str | None = None

    def __init__(
        self,
        *,
        features: Mapping[str, Any],
        tasks: Mapping[str, Any],
        split: Mapping[str, Any],
        group: Name | None = None,
        item: Name | None = None,
        time: Name | None = None,
        where: str | None = None,
        row_weight: str | None = None,
        max_rows: PositiveInt | None = None,
        max_train_rows: PositiveInt | None = None,
        drop: Names = (),
        downsample: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
        domain: Name | None = None,
    ) -> None:
        # A name such as 101 arrives from YAML or the command line as a number.
        features = {str(name): value for name, value in features.items()}
        for name in drop:
            if name not in features and name not in tasks:
                raise InputError(f"dataset.drop: no feature or task {name}.{did_you_mean(name, [*features, *tasks])}")
        self.histories: tuple[HistorySpec, ...]
        self.histories, features = split_histories({k: v for k, v in features.items() if k not in set(drop)})
        #: The name of the feature that reads the domain.
        self.domain: str | None
        features, self.domain = add_domain(features, domain)
        self.history = HistorySettings(**check(HistorySettings, history or {}, "dataset.history", ignore_nulls=True))
        self.features: tuple[Feature, ...] = build_features(features)
        if not self.features:
            raise InputError("dataset.features should name at least one feature. Received: none.")
        self.tasks: tuple[Task, ...] = build_tasks({k: v for k, v in tasks.items() if k not in set(drop)})
        self.split: SplitRule = build_split(split)
        self.group, self.item, self.time = group, item, time
        self.where, self.row_weight = where, row_weight
        self.max_rows, self.max_train_rows = max_rows, max_train_rows
        self.downsample: Downsample | None = build_downsample(downsample, self.tasks)

    @abstractmethod
    def sources(self) -> list[Source]:
        """Return where the rows come from, which must be there; empty for generated rows."""

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

    def offers(self, rows: pl.DataFrame) -> Iterator[tuple[Any, pl.DataFrame]]:
        """Yield every item that could have been chosen, and the raw rows as if it had been; needs a `propensity`."""
        raise NotImplementedError

    def scan_earlier(self, columns: Sequence[str]) -> list[pl.LazyFrame]:
        """Return the raw rows of `dataset.history.logs`, lazily; their files are among `sources`.

        Args:
            columns: Raw columns that histories read.

        Raises:
            InputError: If there are none, or the dataset cannot have any.
        """
        if self.history.logs:
            raise InputError(
                f"dataset.history.logs is for tables and KuaiRand. Received: {', '.join(self.history.logs)}, for a "
                f"{type(self).__name__} dataset."
            )
        return []

    def available_columns(self) -> list[str] | None:
        """Return every raw column's name where that is known without reading rows, else none.

        It lets a label name a column that SQL would read otherwise (`marital-status`), and a typo find its
        nearest name.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Return what, besides the arguments of `Dataset`, determines the rows: it enters the fingerprint.

        By default every public attribute of a subclass that is a plain value; the raw files are not among them,
        since what identifies their content is in the fingerprint anyway.
        """
        plain = (bool, int, float, str, Path, list, tuple, Mapping)
        return {
            key: value
            for key, value in sorted(vars(self).items())
            if not key.startswith("_") and key not in _BASE_KEYS and (value is None or isinstance(value, plain))
        }

    def source_name(self) -> str:
        """Return what to call the raw rows in a message: the first source, or the dataset's class."""
        names = [source.name for source in self.sources()]
        if not names:
            return f"the rows of {type(self).__name__}"
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")

    def parse(self, key: str, text: str) -> Expression:
        """Parse a column or an SQL expression found under the config key `key`.

        Raises:
            InputError: If it is neither.
        """
        return parse_expression(key, str(text), self.available_columns())

    def label(self, task: Task) -> Expression:
        """Parse a task's label."""
        return self.parse(f"dataset.tasks.{task.name}.label", task.label)

    def needed_columns(self) -> dict[str, str]:
        """Return every raw column that preparation reads, with the config key that asks for it.

        Raises:
            InputError: If an expression cannot be parsed.
        """
        needed = needed_columns(self.histories, self.available_columns())

        def ask(key: str, column: str | None) -> None:
            if column is not None:
                needed.setdefault(column, key)

        def ask_for(key: str, expression: str | None) -> None:
            for column in () if expression is None else self.parse(key, expression).columns:
                ask(key, column)

        if self.histories:
            ask("dataset.time", self.history_time())
            ask_for("dataset.history.where", self.history.where)
        for feature in self.features:
            if not feature.is_history:
                suffix = "" if feature.column == feature.name else ".column"
                ask(f"dataset.features.{feature.name}{suffix}", feature.column)
        for task in self.tasks:
            where = f"dataset.tasks.{task.name}"
            ask_for(f"{where}.label", task.label)
            ask_for(f"{where}.where", task.where)
            ask_for(f"{where}.length", None if task.most_lengths is None else task.length)
            ask_for(f"{where}.observed_after", task.observed_after)
        ask_for("dataset.where", self.where)
        ask_for("dataset.row_weight", self.row_weight)
        for key in ("group", "item", "time"):
            ask(f"dataset.{key}", getattr(self, key))
        ask("dataset.split.column", self.split.column)
        for task in self.tasks:
            ask(f"the true probability of {task.name}", self.oracle.get(task.name))
        return needed

    def _late_columns(self, task: Task) -> set[str]:
        if task.observed_after is None:
            return set()
        return {*self.parse(f"dataset.tasks.{task.name}.observed_after", task.observed_after).columns} - {self.time}

    def history_time(self) -> str:
        """Return the column that histories take a row's time from: that of a split by time, else `time`.

        Raises:
            InputError: If there is none.
        """
        column = (self.split.column if self.split.by == "time" else None) or self.time
        if column is None:
            raise InputError(
                f"dataset.time should name the column of a row's time: {self.histories[0].name} looks back from "
                "there. Received: null."
            )
        return column

    def check_leaks(self) -> None:
        """Refuse features that are labels, or that are marked as leaky and do not say how they are known before.

        Raises:
            InputError: If there is one.
        """
        labels = {column for task in self.tasks for column in {*self.label(task).columns, *self._late_columns(task)}}
        for spec in self.histories:
            for column, key in needed_columns([spec], self.available_columns()).items():
                if column in self.leaky and column in self.future_aggregates:
                    raise InputError(
                        f"{key} should not read column {column}, in a history either: {self.leaky[column]}. "
                        f"Drop the feature, dataset.drop=[{spec.name}]."
                    )
            for text in spec.by:
                key = f"dataset.features.{spec.name}.by"
                for column in self.parse(key, text).columns:
                    if column in labels or column in self.leaky:
                        reason = self.leaky.get(column, "it is a label")
                        raise InputError(
                            f"{key} should be known before the row's labels are. Column {column} is not: {reason}. "
                            f"Use it in {spec.name}.where, which is about earlier rows."
                        )
        for feature in self.features:
            where = f"dataset.features.{feature.name}"
            for task in self.tasks:
                label = self.label(task)
                if label.is_column and label.columns[0] == feature.column:
                    raise InputError(
                        f"{where} should not be a label: task {task.name} is read from column {feature.column}. "
                        f"Drop the feature, dataset.drop=[{feature.name}]."
                    )
                if feature.column in self._late_columns(task) and not feature.known_before:
                    raise InputError(
                        f"{where} should be known before the labels are. Column {feature.column} is read by "
                        f"dataset.tasks.{task.name}.observed_after. Drop the feature, dataset.drop=[{feature.name}]."
                    )
            if feature.column in self.leaky and not feature.known_before:
                raise InputError(
                    f"{where} should be known before the labels are. Column {feature.column} is not: "
                    f"{self.leaky[feature.column]}. Drop the feature, set dataset.allow_leaky=true, or say how it is "
                    f"known, {where}.known_before='...'."
                )


#: Attributes that are no settings of a subclass.
_BASE_KEYS = {*spec_of(Dataset).parameters, "histories", "future_aggregates", "leaky", "oracle", "allow_leaky"}
