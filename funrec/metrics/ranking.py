"""How much of what a user liked stands at the top of that user's list: NDCG and recall of the first k rows.

Both are unweighted means over users. By default a user counts whose rows have both labels, as in GAUC (`val_user` says
how many these are): where every row is positive any order is perfect. Rows of one score stand in every order equally
often, and the metric is the exact expectation over these orders.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np

from funrec.metrics.base import Entries, GroupMean, TaskRows
from funrec.metrics.sorting import Array
from funrec.utils.specs import PositiveInt

#: Which users a mean is over, and why there is no value where there is none.
_COUNTED = {
    "both_labels": ("users with both labels", "no group has both labels"),
    "any_positive": ("users with a positive row", "no label is 1"),
    "all": ("all users, 0 for those without a positive row", "there is no row"),
}


class MeanAtK(GroupMean):
    """A mean over users of what the first `k` rows of a list give.

    Args:
        k: Length of the list that counts.
        users: Which users count: with `both_labels`, with `any_positive` row, or `all`, where
            a user without a positive row counts as 0. Any but the first ends the name.
    """

    stem: str
    has_macro = True

    def __init__(
        self, k: PositiveInt = 10, users: Literal["both_labels", "any_positive", "all"] = "both_labels"
    ) -> None:
        self.k = k
        self.needs_both_labels = users == "both_labels"
        self.name = f"{self.stem}_{k}" + ("" if self.needs_both_labels else f"_{users}")
        self.users = users
        self.counted, self.undefined = _COUNTED[users]

    def entries(self, rows: TaskRows) -> Entries:
        runs = rows.group_runs
        starts = runs.group_starts
        if not starts.size:
            return Entries(np.zeros(0), units=runs.groups)
        positives = np.add.reduceat(runs.positives, starts)
        counted = np.ones_like(positives, bool) if self.users == "all" else positives > 0
        if self.needs_both_labels:
            counted &= np.add.reduceat(runs.negatives, starts) > 0
        # Places are counted from the top: a run of positives stands below all higher runs, among its tied negatives.
        sizes = runs.positives + runs.negatives
        rows_through = np.cumsum(sizes)
        ends = np.append(starts[1:], sizes.size) - 1
        first = np.repeat(rows_through[ends], np.diff(starts, append=sizes.size)) - rows_through
        gains = np.add.reduceat(self.gains(runs.positives, first, runs.positives + runs.tied_negatives), starts)
        return Entries(gains[counted] / self.best(np.maximum(positives[counted], 1)), units=runs.groups[counted])

    @abstractmethod
    def gains(self, positives: Array, first: Array, tied: Array) -> Array:
        """Return what every run of equal rows adds to its list's gain, in expectation, `float64 (runs,)`.

        Args:
            positives: Positive rows of the run, `(runs,)`.
            first: The place of the first row of its score, from 0, `(runs,)`.
            tied: Number of rows of its score, `(runs,)`; zero or more, as a run of negatives counts no row.
        """

    @abstractmethod
    def best(self, positives: Array) -> Array:
        """Return the gain that 1 stands for, for lists with so many positive rows, `float64 (groups,)`."""


class RecallAtK(MeanAtK):
    """`recall@k = positive rows among a user's first k / positive rows of the user`."""

    stem = "recall_at"
    pattern = r"recall_at_\d+(?:_any_positive|_all)?"

    def gains(self, positives: Array, first: Array, tied: Array) -> Array:
        return positives * np.clip(self.k - first, 0, tied) / np.maximum(tied, 1)

    def best(self, positives: Array) -> Array:
        return positives


class NDCGAtK(MeanAtK):
    """`DCG@k = sum_{r=1..k} label_r / log2(r + 1)`, `NDCG@k = DCG@k / DCG@k of the best order`.

    Jarvelin and Kekalainen, TOIS 2002; ties as in McSherry and Najork, ECIR 2008, and in scikit-learn.
    """

    stem = "ndcg_at"
    pattern = r"ndcg_at_\d+(?:_any_positive|_all)?"

    def gains(self, positives: Array, first: Array, tied: Array) -> Array:
        through = self._discounts_through(int((first + tied).max(initial=0)))
        deepest = through.size - 1
        held = through[np.minimum(first + tied, deepest)] - through[np.minimum(first, deepest)]
        return positives * held / np.maximum(tied, 1)

    def best(self, positives: Array) -> Array:
        through = self._discounts_through(int(positives.max(initial=0)))
        return through[np.minimum(positives, through.size - 1)]

    def _discounts_through(self, places: int) -> Array:
        """Return the sum of the discounts of the first so many places, at most k, beginning with 0."""
        return np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, min(self.k, places) + 2)))))
