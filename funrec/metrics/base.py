"""What a metric is: a name, a direction, what it needs, and its value on the rows of one task.

To add a metric, subclass `Metric` (or `MeanMetric`, `GroupMean`) in a module of this package and name the class in a
file of `conf/metrics/extra/`. It is then chosen with `metrics/extra=[its_name]`, and is a column of the table, the
history, `compare` and the report.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.intervals import Bootstrapped, MeanStatistic, Statistic
from funrec.metrics.sorting import Array, Runs, UndefinedMetric, sort_runs

MACRO = "macro"
NO_GROUPS = "no group column"


def sigmoid(logits: ArrayLike) -> Array:
    """Return `1 / (1 + exp(-logit))` in float64, without overflow at either end."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class TaskRows:
    """The rows of one task's sample space with their scores.

    Attributes:
        labels: 0/1 labels of a binary task, values of a regression task, `(rows,)`.
        scores: Log odds of a binary task, values of a regression task, `(rows,)`.
        groups: The user of every row, `(rows,)`; None where the data has no group column.
        units: The sampling unit of every row, a code from 0, `(rows,)`; only intervals need it.
    """

    labels: Array
    scores: Array
    groups: Array | None = None
    units: Array | None = None

    @cached_property
    def runs(self) -> Runs:
        """The rows sorted by score."""
        return sort_runs(self.labels, self.scores)

    @cached_property
    def group_runs(self) -> Runs:
        """The rows sorted by group, then score."""
        if self.groups is None:
            raise UndefinedMetric("A metric of groups", NO_GROUPS)
        return sort_runs(self.labels, self.scores, self.groups)

    @cached_property
    def probabilities(self) -> Array:
        """Predicted probabilities of a binary task, `float64 (rows,)`."""
        return sigmoid(self.scores)

    def drawn(self, times: Array) -> TaskRows:
        """Return the rows as often as each unit was drawn, `times (units,)`; a user drawn twice is two users."""
        if self.units is None:
            raise ValueError("Rows without units cannot be drawn.")
        repeats = times[self.units].astype(np.int64)
        index = np.repeat(np.arange(repeats.size), repeats)
        groups = None
        if self.groups is not None:
            copy = np.arange(index.size) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            groups = self.units[index] + times.size * copy
        return TaskRows(self.labels[index], self.scores[index], groups)


@dataclass(frozen=True)
class Sample:
    """The rows of one task's sample space, to be scored by any number of models.

    Attributes:
        labels: See `TaskRows`.
        units: The sampling unit of every row, a code from 0, `(rows,)`: its user, or itself where there are no groups.
        num_units: Number of codes, which may be larger than that of the units among the rows.
        has_groups: Whether the units are users.
        index: The places of these rows among those that are scored, `(rows,)`; None for all.
    """

    labels: Array
    units: Array
    num_units: int
    has_groups: bool
    index: Array | None = None

    def scored(self, scores: Array) -> TaskRows:
        """Return the rows with the scores of a model, given for all rows that are scored."""
        picked = scores if self.index is None else scores[self.index]
        return TaskRows(self.labels, picked, self.units if self.has_groups else None, self.units)

    def unscored(self) -> TaskRows:
        """Return the rows with all scores 0, to count what is behind a metric."""
        zeros = np.zeros(self.labels.size, np.float32)
        return TaskRows(self.labels, zeros, self.units if self.has_groups else None, self.units)

    def picked(self, rows: Array) -> Sample:
        """Return the rows at some places."""
        index = rows if self.index is None else self.index[rows]
        return Sample(self.labels[rows], self.units[rows], self.num_units, self.has_groups, index)


class Metric(ABC):
    """One number about a model's scores on a task.

    A column is named `<name>_<task>`, `<name>_<task>_given_<parent>` or `<name>_macro`, and ends with `@<split>` on
    any split but validation.

    Attributes:
        name: How its columns begin. It must tell apart whatever gives different values: `recall_at_10`.
        pattern: A regular expression for all names of the class; by default its `name`.
        higher_is_better: None where neither more nor less is better, as of a count.
        is_count: Whether it is a property of the rows, the same for every model.
        kind: The tasks it measures: `binary`, `regression` (durations among them) or `duration`.
        needs_groups: Whether it is undefined without a group column.
        needs_probabilities: Whether scores must be log odds; otherwise any score that ranks will do.
        is_given_parent: Whether it is also measured on the rows where the label of a task's parent is 1.
        has_macro: Whether its mean over the binary tasks is reported too.
        in_table: Whether it is a column of the default table wherever it was measured.
        each_epoch: Whether it is cheap enough for every epoch, and hence in the history.
    """

    name: str
    pattern: ClassVar[str] = ""
    higher_is_better: ClassVar[bool | None] = True
    is_count: ClassVar[bool] = False
    kind: str = "binary"
    needs_groups: ClassVar[bool] = False
    needs_probabilities: ClassVar[bool] = False
    is_given_parent: ClassVar[bool] = False
    has_macro: ClassVar[bool] = False
    in_table: ClassVar[bool] = True
    each_epoch: ClassVar[bool] = True

    @abstractmethod
    def value(self, rows: TaskRows) -> float:
        """Return the metric.

        Raises:
            UndefinedMetric: If it has no value on these rows.
            ValueError: If a score is NaN or a label is not what it should be.
        """

    def statistic(self, sample: Sample) -> Statistic:
        """Return the metric with its sampling error: by the bootstrap, unless a subclass knows influence values."""
        return Bootstrapped(self, sample)


@dataclass(frozen=True, slots=True)
class Entries:
    """What a mean is taken over.

    Attributes:
        values: `float64 (entries,)`.
        weights: What each counts, `float64 (entries,)`; None for one each.
        units: The sampling unit of each, `(entries,)`; None where entries are the rows.
    """

    values: Array
    weights: Array | None = None
    units: Array | None = None


class MeanMetric(Metric):
    """A mean over rows or groups, whose influence values follow from its entries.

    Attributes:
        is_root: Whether the metric is the square root of the mean.
        undefined: Why there is no value where there is no entry.
    """

    is_root: ClassVar[bool] = False
    undefined: str = "there is no row"

    @abstractmethod
    def entries(self, rows: TaskRows) -> Entries:
        """Return what the mean is taken over."""

    def value(self, rows: TaskRows) -> float:
        entries = self.entries(rows)
        if not entries.values.size:
            raise UndefinedMetric(self.name, self.undefined)
        mean = np.average(entries.values, weights=entries.weights)
        return float(np.sqrt(mean) if self.is_root else mean)

    def statistic(self, sample: Sample) -> Statistic:
        return MeanStatistic(self, sample)


class GroupMean(MeanMetric):
    """A mean over groups (users).

    Attributes:
        needs_both_labels: Whether only groups with both labels count; otherwise those that `entries` returns.
        counted: Which users it is a mean over, in words.
    """

    needs_groups = True
    undefined = "no group has both labels"
    needs_both_labels: bool = True
    counted: str = "users with both labels"

    def statistic(self, sample: Sample) -> Statistic:
        if self.needs_both_labels and self.kind == "binary":
            # Of a rare task these are a small part of the rows.
            positives, negatives = (
                np.bincount(sample.units[sample.labels == label], minlength=sample.num_units) for label in (1, 0)
            )
            sample = sample.picked(np.flatnonzero(((positives > 0) & (negatives > 0))[sample.units]))
        return MeanStatistic(self, sample)


def find_metric(column: str) -> type[Metric] | None:
    """Return the metric that a column is of, or None if no class of this package, or loaded from another, has it."""
    split = split_column(column)
    return None if split is None else split[0]


def split_column(column: str) -> tuple[type[Metric], str, str] | None:
    """Return a column's metric, the name it begins with, and what it was measured on: `<task>[@<split>]` or a macro."""
    found = None
    for metric in _classes():
        match = re.match(f"({metric.pattern or metric.name})_(?=[^@])", column)
        if match and (found is None or len(match[1]) > len(found[1])):
            found = metric, match[1], column[match.end() :]
    return found


def is_higher_better(column: str) -> bool:
    """Whether more of a metric is better; also of a metric that is not known."""
    metric = find_metric(column)
    return metric is None or metric.higher_is_better is not False


def has_direction(column: str) -> bool:
    """Whether more or less of a metric is better: neither is of a count, or of a ratio that should be 1."""
    metric = find_metric(column)
    return metric is None or metric.higher_is_better is not None


def is_count(column: str) -> bool:
    """Whether a metric is a property of the rows, the same for every model."""
    metric = find_metric(column)
    return metric is not None and metric.is_count


def is_table_metric(column: str) -> bool:
    """Whether a column stands in the default table, on whatever split."""
    metric = find_metric(column)
    return metric is not None and metric.in_table and "_given_" not in column.partition("@")[0]


def table_columns(columns: Iterable[str]) -> list[str]:
    """Return the names among `columns` that stand in the default table, by name, and then by split."""
    return sorted(filter(is_table_metric, columns), key=lambda name: name.partition("@"))


def _classes() -> Iterator[type[Metric]]:
    _import_all()
    pending: list[type[Metric]] = [Metric]
    while pending:
        pending += (kind := pending.pop()).__subclasses__()
        if not inspect.isabstract(kind):
            yield kind


@cache
def _import_all() -> None:
    package = importlib.import_module("funrec.metrics")
    for module in pkgutil.iter_modules(package.__path__, "funrec.metrics."):
        importlib.import_module(module.name)
