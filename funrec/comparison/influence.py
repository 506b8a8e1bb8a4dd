"""How much each user moves a metric: per-user influence values, from which every interval is made.

Users are the sampling unit: rows of one user resemble each other, so that an interval over rows is too narrow. A metric
of a sample of users is, to first order, its true value plus a sum of one number per user, that user's *influence*. The
influence values sum to zero, and the sum of their squares is the metric's sampling variance. A difference between two
models scored on the same rows has the difference of their influence values, hence is paired for free; a mean over
tasks or seeds has their mean.

Where the data has no group column every row is a user of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from funrec.comparison.bootstrap import Resamples
from funrec.metrics import per_group_auc
from funrec.metrics.gauc import PerGroupAUC
from funrec.metrics.placements import Placements
from funrec.metrics.sorting import Array, check_rows


@dataclass(frozen=True, slots=True)
class Rows:
    """What all compared runs share: the rows of one split, without their scores.

    Attributes:
        users: A code from 0 per row's user, `int64 (rows,)`; none where the data has no group column.
        labels: By task, `float32 (rows,)`, NaN where the row is not in the task's sample space.
        gauc_weight: See `funrec.metrics.group_auc`.
    """

    users: Array | None
    labels: Mapping[str, Array]
    gauc_weight: str

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    @property
    def units(self) -> int:
        """Number of sampling units: users, or rows where there is no group column."""
        return len(self) if self.users is None else int(self.users.max(initial=-1)) + 1

    def codes(self, rows: Array) -> Array:
        """Return the sampling unit of some rows, given by a mask or by index."""
        return np.arange(len(self))[rows] if self.users is None else self.users[rows]


class Target(NamedTuple):
    """What a metric's name ends with: a task, or a task among the rows where its parent's label is 1.

    Attributes:
        task: Whose labels.
        parent: The parent task; none for the task's own sample space.
        heads: Heads whose scores to read: the first of them that a run has.
    """

    task: str
    parent: str | None
    heads: tuple[str, ...]


class Statistic(Protocol):
    """One metric of one split, prepared once for the scores of any number of runs.

    Attributes:
        heads: Heads whose scores it reads: the first of them that a run has.
        count: Number of sampling units behind it.
    """

    heads: tuple[str, ...]
    count: int

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        """Return the metric and how it varies with the users.

        Args:
            scores: Scores of every row of the split, `(rows,)`.
            resamples: Where given, the second value is over resamples instead of users.

        Returns:
            The value, and a vector with the sum of squares of the value's sampling variance: influence values
            `float64 (units,)`, or with resamples the scaled deviations `float64 (resamples,)`.

        Raises:
            ValueError: If a score is NaN.
        """
        ...


class ClusteredAUC:
    """The AUC, with its placement values summed per user; see `Placements`. With a row per user it is DeLong's.

    Args:
        rows: The split.
        labels: 0/1 labels, NaN where a row does not count, `(rows,)`.
        heads: See `Statistic`.
    """

    def __init__(self, rows: Rows, labels: Array, heads: tuple[str, ...]) -> None:
        self.heads = heads
        self._rows: Array = np.flatnonzero(~np.isnan(labels))
        self._positive, _ = check_rows(labels[self._rows], self._rows)
        self._users = rows.codes(self._rows)
        self._placements = Placements(self._positive, self._users, rows.units)
        self.count = self._placements.count

    @property
    def is_defined(self) -> bool:
        """Whether both labels occur."""
        return self._placements.undefined is None

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        if self._rows.size < scores.size:
            scores = scores[self._rows]
        value, influence = self._placements.measure(scores)
        if resamples is None:
            return value, influence * _small_sample(self.count)
        order = np.argsort(scores)
        positive, users, ascending = self._positive[order], self._users[order], scores[order]
        negative_scores, positive_scores = ascending[~positive], ascending[positive]
        below = np.searchsorted(negative_scores, positive_scores, side="left")
        at_or_below = np.searchsorted(negative_scores, positive_scores, side="right")
        return value, resamples.auc(users[positive], users[~positive], below, at_or_below)


class MeanOfGroups:
    """The GAUC: a ratio of sums over users, `sum_u w_u AUC_u / sum_u w_u`, over users with both labels.

    `influence_u = w_u (AUC_u - GAUC) / sum w` (the delta method for a ratio; weights vary with the users too).

    Args:
        rows: The split, which has users.
        labels: 0/1 labels, NaN where a row does not count, `(rows,)`.
        heads: See `Statistic`.
    """

    def __init__(self, rows: Rows, labels: Array, heads: tuple[str, ...]) -> None:
        if rows.users is None:
            raise ValueError("A GAUC needs users.")
        self.heads = heads
        self._units = rows.units
        positives = np.bincount(rows.users[labels == 1], minlength=self._units)
        negatives = np.bincount(rows.users[labels == 0], minlength=self._units)
        has_both = (positives > 0) & (negatives > 0)
        # Only users with both labels have an AUC: of a rare task that is a small part of the rows.
        self._rows: Array = np.flatnonzero(has_both[rows.users] & ~np.isnan(labels))
        self._users, self._labels = rows.users[self._rows], labels[self._rows]
        self._groups: Array = np.flatnonzero(has_both)
        self.count = self._groups.size
        impressions = (positives + negatives)[self._groups]
        known = PerGroupAUC(self._groups, np.zeros(self.count), impressions, positives[self._groups])
        self._weights = known.weights(rows.gauc_weight)

    @property
    def is_defined(self) -> bool:
        """Whether a user has both labels."""
        return self.count > 0

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        auc = per_group_auc(self._users, self._labels, scores[self._rows]).auc
        value = float(np.average(auc, weights=self._weights))
        if resamples is not None:
            return value, resamples.ratio(self._groups, self._weights * auc, self._weights)
        influence = np.zeros(self._units)
        influence[self._groups] = self._weights * (auc - value) / self._weights.sum()
        return value, influence * _small_sample(self.count)


class MeanOfRows:
    """The log loss, or the root mean squared error: a mean over rows, with the rows of a user summed.

    `influence_u = (sum of u's losses - rows of u * mean) / rows`, over `2 RMSE` under the root.

    Args:
        rows: The split.
        labels: Labels, NaN where a row does not count, `(rows,)`.
        heads: See `Statistic`.
        is_squared: Whether it is the root mean squared error.
    """

    def __init__(self, rows: Rows, labels: Array, heads: tuple[str, ...], is_squared: bool) -> None:
        self.heads = heads
        self._rows: Array = np.flatnonzero(~np.isnan(labels))
        self._labels = labels[self._rows].astype(np.float64)
        self._users, self._units = rows.codes(self._rows), rows.units
        self._rows_of_user = np.bincount(self._users, minlength=self._units)
        self.count = int(np.count_nonzero(self._rows_of_user))
        self._is_squared = is_squared

    @property
    def is_defined(self) -> bool:
        """Whether there is a row."""
        return self._rows.size > 0

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        scores = scores[self._rows].astype(np.float64)
        if np.isnan(scores).any():
            raise ValueError("scores should not be NaN")
        if self._is_squared:
            losses = np.square(self._labels - scores)
        else:
            losses = np.logaddexp(0.0, np.where(self._labels == 1, -scores, scores))
        mean = float(losses.mean())
        sums = np.bincount(self._users, weights=losses, minlength=self._units)
        value = float(np.sqrt(mean)) if self._is_squared else mean
        slope = (1 / (2 * value) if value else 0.0) if self._is_squared else 1.0
        if resamples is not None:
            return value, slope * resamples.ratio(np.arange(self._units), sums, self._rows_of_user)
        influence = slope * (sums - self._rows_of_user * mean) / self._rows.size
        return value, influence * _small_sample(self.count)


def build_statistics(rows: Rows, targets: Mapping[str, Target], names: set[str]) -> dict[str, Statistic]:
    """Return those of the named metrics that have influence values and are defined on these rows.

    Args:
        rows: The split.
        targets: By what a metric's name ends with: `is_like`, `is_like_given_is_click`.
        names: Metrics, without the mark of their split.
    """
    built: dict[str, ClusteredAUC | MeanOfGroups | MeanOfRows] = {}
    for name, (task, parent, heads) in targets.items():
        labels = rows.labels[task]
        if parent is not None:
            labels = np.where(rows.labels[parent] == 1, labels, np.float32(np.nan))
        if f"auc_{name}" in names:
            built[f"auc_{name}"] = ClusteredAUC(rows, labels, heads)
        if f"gauc_{name}" in names and rows.users is not None:
            built[f"gauc_{name}"] = MeanOfGroups(rows, labels, heads)
        for metric in ("log_loss", "rmse"):
            if f"{metric}_{name}" in names:
                built[f"{metric}_{name}"] = MeanOfRows(rows, labels, heads, is_squared=metric == "rmse")
    return {name: statistic for name, statistic in built.items() if statistic.is_defined}


def _small_sample(count: int) -> float:
    """Return what makes a sum of squares of so many influence values an unbiased variance; one user has none."""
    return float(np.sqrt(count / (count - 1))) if count > 1 else 0.0
