"""How well predictions order the values of a regression task: the AUC's counterpart for watch time and the like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from funrec.metrics.base import Entries, GroupMean, Metric, TaskRows
from funrec.metrics.errors import residuals
from funrec.metrics.sorting import Array, UndefinedMetric


@dataclass(frozen=True, slots=True)
class PairOrder:
    """How the pairs of rows of every group are ordered.

    Attributes:
        groups: The groups' own values, ascending, `(groups,)`.
        rows: Number of rows, `int64 (groups,)`.
        pairs: Pairs of rows whose labels differ, `int64 (groups,)`.
        concordant: Of these, how many have scores in the order of their labels, a tie counting half, `(groups,)`.
    """

    groups: Array
    rows: Array
    pairs: Array
    concordant: Array


def order_pairs(labels: Array, scores: Array, groups: Array) -> PairOrder:
    """Count the pairs of rows inside every group by the order of their labels and scores, in `O(n log n)`."""
    residuals(labels, scores)  # which refuses NaN and lengths that differ
    values, codes = np.unique(groups, return_inverse=True)
    rows = np.bincount(codes, minlength=values.size)
    ranks = np.empty(codes.size, np.int64)
    by_score = np.lexsort((scores, codes))
    ranks[by_score] = np.cumsum(_starts(codes[by_score], scores[by_score])) - 1
    # Rows of one label stand by score, so that a pair of them is never in the wrong order.
    by_label = np.lexsort((scores, labels, codes))
    discordant = np.bincount(codes[by_label], weights=_count_earlier_above(ranks[by_label]), minlength=values.size)

    def tied(order: Array, *keys: Array) -> Array:
        starts = np.flatnonzero(_starts(*(key[order] for key in (codes, *keys))))
        sizes = np.diff(starts, append=order.size)
        return np.bincount(codes[order][starts], weights=sizes * (sizes - 1) // 2, minlength=values.size)

    pairs = rows * (rows - 1) // 2 - tied(by_label, labels)
    tied_scores = tied(by_score, scores) - tied(by_label, labels, scores)
    return PairOrder(values, rows, pairs.astype(np.int64), pairs - discordant - tied_scores / 2)


class XAUC(Metric):
    """The chance that of two rows with different labels the one with the larger label has the larger prediction.

    Ties of predictions count half. Zhan et al., KDD 2022, draw pairs at random; here all pairs count.
    """

    name = "xauc"
    kind = "regression"

    def value(self, rows: TaskRows) -> float:
        found = order_pairs(rows.labels, rows.scores, np.zeros(rows.labels.size, np.int64))
        if not found.pairs.sum():
            raise UndefinedMetric("XAUC", "all labels are the same" if rows.labels.size else "there is no row")
        return float(found.concordant[0] / found.pairs[0])


class GroupXAUC(GroupMean):
    """XAUC within each user, over users with two different labels, weighted by their rows as GAUC is by default."""

    name = "gxauc"
    kind = "regression"
    undefined = "no group has two different labels"
    counted = "users with two different labels, weighted by their rows"

    def entries(self, rows: TaskRows) -> Entries:
        if rows.groups is None:
            raise UndefinedMetric("GXAUC", "no group column")
        found = order_pairs(rows.labels, rows.scores, rows.groups)
        some = found.pairs > 0
        return Entries(found.concordant[some] / found.pairs[some], found.rows[some].astype(float), found.groups[some])


def _starts(*keys: Array) -> Array:
    """Return where a run of rows with equal keys begins, `bool (rows,)`."""
    starts = np.ones(keys[0].size, bool)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return starts


def _count_earlier_above(ranks: Array) -> Array:
    """Return for each row how many earlier rows have a higher rank, `int64 (rows,)`.

    Two ranks differ first in some bit, the highest in which they do: each pass counts the pairs of one such bit, among
    rows that agree in all higher bits.
    """
    counts = np.zeros(ranks.size, np.int64)
    order = np.arange(ranks.size)
    for bit in reversed(range(int(ranks.max(initial=0)).bit_length())):
        prefixes, ones = ranks[order] >> (bit + 1), (ranks[order] >> bit) & 1
        ones_before = np.cumsum(ones) - ones
        ones_before -= np.maximum.accumulate(np.where(_starts(prefixes), ones_before, 0))
        counts[order] += np.where(ones == 0, ones_before, 0)
        order = order[np.argsort(ranks[order] >> bit, kind="stable")]
    return counts
