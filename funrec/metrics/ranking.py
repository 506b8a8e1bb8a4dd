"""Ranking metrics of the top of each group's list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.sorting import UndefinedMetric, sort_runs


@dataclass(frozen=True, slots=True)
class GroupNDCG:
    """A mean of NDCG over groups.

    Attributes:
        value: The mean.
        groups: Number of groups with a positive row: those behind `value`.
    """

    value: float
    groups: int


def ndcg_at_k(groups: ArrayLike, labels: ArrayLike, scores: ArrayLike, k: int) -> GroupNDCG:
    """Mean normalised discounted cumulative gain of the first `k` rows of each group, over groups with a positive row.

    `DCG@k = sum_{r=1..k} label_r / log2(r + 1)`, `NDCG = DCG / DCG of the best order` (Jarvelin and Kekalainen, TOIS
    2002). Rows of one score share the mean discount of the places they hold (McSherry and Najork, ECIR 2008), as in
    scikit-learn.

    Args:
        groups: The group (user) of every row, of any type that sorts, `(rows,)`.
        labels: 0/1 labels, `(rows,)`.
        scores: Scores of any scale, the higher the likelier, `(rows,)`.
        k: Length of the list that counts.

    Raises:
        UndefinedMetric: If no label is 1.
        ValueError: If `k` is not positive, lengths differ, a score or group is NaN, or a label is neither 0 nor 1.
    """
    if k < 1:
        raise ValueError(f"k should be positive. Received: {k}.")
    runs = sort_runs(labels, scores, groups)
    starts = runs.group_starts
    if not starts.size or not runs.positives.any():
        raise UndefinedMetric(f"NDCG@{k}", "no label is 1")
    rows = runs.positives + runs.negatives
    rows_through = np.cumsum(rows)
    rows_in_group = np.add.reduceat(rows, starts)
    group_of_run = np.repeat(np.arange(starts.size), np.diff(starts, append=rows.size))
    # Places are counted from the top: a run of positives stands below all higher runs, among its tied negatives.
    first_place = np.cumsum(rows_in_group)[group_of_run] - rows_through
    tied = runs.positives + runs.tied_negatives
    discounts = 1 / np.log2(np.arange(2, min(k, int(rows_in_group.max())) + 2))
    total = np.concatenate(([0.0], np.cumsum(discounts)))
    deepest = total.size - 1
    share = total[np.minimum(first_place + tied, deepest)] - total[np.minimum(first_place, deepest)]
    gain = np.add.reduceat(runs.positives * share / np.maximum(tied, 1), starts)
    positives = np.add.reduceat(runs.positives, starts)
    has_positive = positives > 0
    best = total[np.minimum(positives[has_positive], deepest)]
    return GroupNDCG(float(np.mean(gain[has_positive] / best)), int(has_positive.sum()))
