"""The sampling errors of a split's metrics, prepared for the scores of many runs; see `funrec.metrics.intervals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from funrec.metrics import Metric
from funrec.metrics.base import Sample
from funrec.metrics.intervals import Statistic
from funrec.metrics.sorting import Array


@dataclass(frozen=True, slots=True)
class Rows:
    """What all compared runs share: the rows of one split, without their scores.

    Attributes:
        users: A code from 0 per row's user, `int64 (rows,)`; None where the data has no group column.
        labels: By task, `float32 (rows,)`, NaN where the row is not in the task's sample space.
    """

    users: Array | None
    labels: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    @property
    def units(self) -> int:
        """Number of sampling units: users, or rows where there is no group column."""
        return len(self) if self.users is None else int(self.users.max(initial=-1)) + 1

    def sample(self, labels: Array) -> Sample:
        """Return the rows where labels are not NaN."""
        places = np.flatnonzero(~np.isnan(labels))
        units = places if self.users is None else self.users[places]
        index = None if places.size == labels.size else places
        return Sample(labels[places], units, self.units, self.users is not None, index)


class Target(NamedTuple):
    """What a metric's name ends with: a task, or a task among the rows where its parent's label is 1.

    Attributes:
        task: Whose labels.
        parent: The parent task; None for the task's own sample space.
        heads: Heads whose scores to read: the first of them that a run has.
    """

    task: str
    parent: str | None
    heads: tuple[str, ...]


class Prepared(NamedTuple):
    """A metric's statistic, and the heads whose scores it reads: the first of them that a run has."""

    statistic: Statistic
    heads: tuple[str, ...]


def build_statistics(
    rows: Rows, targets: Mapping[str, Target], metrics: Sequence[Metric], names: set[str]
) -> dict[str, Prepared]:
    """Return those of the named metrics that are better in one direction and are defined on these rows.

    Args:
        rows: The split.
        targets: By what a metric's name ends with: `is_like`, `is_like_given_is_click`.
        metrics: What the runs measured.
        names: Metrics, without the mark of their split.
    """
    built = {}
    for name, (task, parent, heads) in targets.items():
        wanted = [metric for metric in metrics if f"{metric.name}_{name}" in names]
        wanted = [metric for metric in wanted if metric.higher_is_better is not None]
        if not wanted:
            continue
        labels = rows.labels[task]
        if parent is not None:
            labels = np.where(rows.labels[parent] == 1, labels, np.float32(np.nan))
        sample = rows.sample(labels)
        for metric in wanted:
            if metric.needs_groups and rows.users is None:
                continue
            statistic = metric.statistic(sample)
            if statistic.is_defined:
                built[f"{metric.name}_{name}"] = Prepared(statistic, heads)
    return built
