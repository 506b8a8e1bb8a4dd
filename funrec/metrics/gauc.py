"""AUC within each group (user), its mean over groups, and the number of groups behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.base import Entries, GroupMean, Metric, TaskRows
from funrec.metrics.sorting import Array, Runs, UndefinedMetric, sort_runs
from funrec.utils.errors import InputError, did_you_mean

GAUC_WEIGHTS = ("impressions", "none", "positives")


@dataclass(frozen=True, slots=True)
class PerGroupAUC:
    """The AUC of every group with both labels.

    Attributes:
        groups: The groups' own values, ascending, `(groups,)`.
        auc: Exact AUC within the group, `float64 (groups,)`.
        impressions: Rows of the group, `int64 (groups,)`.
        positives: Rows with label 1, `int64 (groups,)`.
    """

    groups: Array
    auc: Array
    impressions: Array
    positives: Array

    def weights(self, weight: str) -> Array:
        """Return what each group counts in the mean, `float64 (groups,)`, for a weight of `GAUC_WEIGHTS`."""
        if weight == "none":
            return np.ones_like(self.auc)
        return (self.impressions if weight == "impressions" else self.positives).astype(np.float64)


class GroupAUC(NamedTuple):
    """A weighted mean of the AUCs within groups, and the number of groups behind it: those with both labels."""

    value: float
    groups: int


def group_auc(groups: ArrayLike, labels: ArrayLike, scores: ArrayLike, weight: str = "impressions") -> GroupAUC:
    """Mean AUC within groups: `GAUC = sum_g w_g * AUC_g / sum_g w_g` over groups with both labels.

    Zhu et al., KDD 2017 ("Optimized cost per click in Taobao display advertising"), eq. 11, weigh by impressions.

    Args:
        groups: The group (user) of every row, in any order and of any type that sorts, `(rows,)`.
        labels: 0/1 labels, `(rows,)`.
        scores: Scores of any scale, the higher the likelier, `(rows,)`.
        weight: What a group counts: its rows (`impressions`), its rows with label 1 (`positives`), or one (`none`).

    Raises:
        UndefinedMetric: If no group has both labels.
        ValueError: If lengths differ, a score or group is NaN, a label is neither 0 nor 1, or the weight is unknown.

    >>> mean = group_auc(["a", "a", "a", "b", "b", "c"], labels=[0, 1, 1, 0, 1, 1], scores=[1, 2, 3, 2, 1, 5])
    >>> mean.value, mean.groups
    (0.6, 2)
    """
    check_gauc_weight(weight, "weight")
    per_group = per_group_auc(sort_runs(labels, scores, groups))
    if not per_group.auc.size:
        raise UndefinedMetric("GAUC", "no group has both labels")
    return GroupAUC(float(np.average(per_group.auc, weights=per_group.weights(weight))), per_group.auc.size)


def per_group_auc(runs: Runs) -> PerGroupAUC:
    """Return the exact AUC of every group with both labels, of rows sorted by group."""
    starts = runs.group_starts
    if not starts.size:
        empty = np.zeros(0, np.int64)
        return PerGroupAUC(runs.groups, empty.astype(np.float64), empty, empty)
    positives = np.add.reduceat(runs.positives, starts)
    negatives = np.add.reduceat(runs.negatives, starts)
    # Negatives are counted from the first row of all: what stands before the group is taken off once per group.
    before_group = np.cumsum(negatives) - negatives
    pairs = np.cumsum(runs.negatives)
    pairs *= 2
    pairs -= runs.tied_negatives
    pairs *= runs.positives
    twice = np.add.reduceat(pairs, starts) - 2 * positives * before_group
    both = (positives > 0) & (negatives > 0)
    positives, negatives = positives[both], negatives[both]
    value = twice[both] / (2 * positives * negatives)
    return PerGroupAUC(runs.groups[both], value, positives + negatives, positives)


class GAUC(GroupMean):
    """AUC within each user, averaged over users with both labels by `metrics.gauc_weight` (Zhu et al., KDD 2017).

    See `group_auc`.
    """

    name = "gauc"
    has_macro = True

    def __init__(self, weight: str = "impressions") -> None:
        check_gauc_weight(weight)
        self.weight = weight

    def entries(self, rows: TaskRows) -> Entries:
        found = per_group_auc(rows.group_runs)
        return Entries(found.auc, found.weights(self.weight), found.groups)


class ValidUsers(Metric):
    """The number of users with both labels, those behind a GAUC: a property of the rows, the same for every model."""

    name = "val_user"
    higher_is_better = None
    is_count = True
    needs_groups = True

    def value(self, rows: TaskRows) -> int:
        return int(per_group_auc(rows.group_runs).auc.size)


def check_gauc_weight(weight: str, name: str = "metrics.gauc_weight") -> None:
    """Check that `weight` is one of `GAUC_WEIGHTS`; `name` is what the message calls it."""
    if weight not in GAUC_WEIGHTS:
        raise InputError(
            f"{name} should be one of {', '.join(GAUC_WEIGHTS)}. Received: {weight}."
            + did_you_mean(weight, GAUC_WEIGHTS)
        )
