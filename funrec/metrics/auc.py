"""Metrics of one ranked list of rows: exact AUC with its influence values, and average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.base import Metric, Sample, TaskRows
from funrec.metrics.intervals import small_sample
from funrec.metrics.sorting import Array, UndefinedMetric, check_rows, undefined_reason


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.

    `AUC = U / (P * N)`, `U = sum over positives (negatives below + negatives tied / 2)` (Mann and Whitney, 1947), from
    one sort, counted in integers and hence exact and independent of the order of rows. Both arrays are `(rows,)`.

    Raises:
        UndefinedMetric: If labels are all 0 or all 1, or there is no row.
        ValueError: If lengths differ, a score is NaN, or a label is neither 0 nor 1.

    >>> auc(labels=[0, 0, 1, 1], scores=[0.1, 0.4, 0.4, 0.8])
    0.875
    """
    return AUC().value(TaskRows(np.asarray(labels), np.asarray(scores)))


class AUC(Metric):
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half."""

    name = "auc"
    is_given_parent = True
    has_macro = True

    def value(self, rows: TaskRows) -> float:
        runs = rows.runs
        positives, negatives = int(runs.positives.sum()), int(runs.negatives.sum())
        if reason := undefined_reason(positives, negatives):
            raise UndefinedMetric("AUC", reason)
        at_or_below = np.cumsum(runs.negatives)
        twice = int(np.dot(runs.positives, 2 * at_or_below - runs.tied_negatives))
        return twice / (2 * positives * negatives)

    def statistic(self, sample: Sample) -> ClusteredAUC:
        return ClusteredAUC(sample)


class PRAUC(Metric):
    """Area under the precision-recall curve, as average precision.

    `sum_n (R_n - R_{n-1}) * P_n` over distinct scores.
    Rows of one score enter together, as in scikit-learn's `average_precision_score`, and nothing is interpolated.
    """

    name = "pr_auc"
    in_table = False
    each_epoch = False

    def value(self, rows: TaskRows) -> float:
        runs = rows.runs
        positives, negatives = int(runs.positives.sum()), int(runs.negatives.sum())
        if not positives:
            raise UndefinedMetric("PR-AUC", undefined_reason(positives, negatives) or "no label is 1")
        at_or_above = np.cumsum(runs.positives[::-1])[::-1]
        rows_at_or_above = at_or_above + np.cumsum(runs.negatives[::-1])[::-1] + runs.tied_negatives
        hit = runs.positives > 0
        return float(np.sum(runs.positives[hit] * (at_or_above[hit] / rows_at_or_above[hit])) / positives)


class ClusteredAUC:
    """The AUC with how much each user moves it: placement values, summed by user.

    `influence_u = sum over u's positives (V10 - AUC) / P + sum over u's negatives (V01 - AUC) / N`, where a positive's
    placement V10 is the share of negatives below it and a negative's V01 the share of positives above it, ties counting
    half (DeLong et al., Biometrics 1988; by cluster: Obuchowski, Biometrics 1997, whose three terms S10, S01 and S11
    these squares expand to). The influence values of two models on the same rows may be subtracted: the sum of squares
    is then the variance of the difference. One sort per model. With a row per user it is DeLong's.

    Attributes:
        count: Number of users among the rows.
        undefined: Why there is no AUC (one label alone, no row); None if there is one.
    """

    def __init__(self, sample: Sample) -> None:
        users, units = sample.units, sample.num_units
        positive, _ = check_rows(sample.labels, users)
        self._sample, self._positive, self._users, self._units = sample, positive, users, units
        self._positives = int(np.count_nonzero(positive))
        self._negatives = positive.size - self._positives
        self.undefined = undefined_reason(self._positives, self._negatives)
        self.is_defined = self.undefined is None
        rows_of_user = np.bincount(users, minlength=units)
        self.count = int(np.count_nonzero(rows_of_user))
        if self.is_defined:
            positives_of_user = np.bincount(users[positive], minlength=units)
            # What is taken off each user's sum of placements, per unit of AUC.
            self._expected: Array = positives_of_user / self._positives
            self._expected += (rows_of_user - positives_of_user) / self._negatives

    def measure(self, scores: Array) -> tuple[float, Array]:
        value, influence = self.influence(self._sample.scored(scores).scores)
        return value, influence * small_sample(self.count)

    def influence(self, scores: Array) -> tuple[float, Array]:
        """Return the AUC and per-user influence values `float64 (units,)`, whose squares add up to its variance.

        Raises:
            UndefinedMetric: If there is no AUC.
            ValueError: If a score is NaN.
        """
        if self.undefined is not None:
            raise UndefinedMetric("AUC", self.undefined)
        if scores.dtype.kind == "f" and np.isnan(scores).any():
            raise ValueError("scores should not be NaN")
        order = np.argsort(scores)
        positive, users = self._positive[order], self._users[order]
        beaten = self._count_beaten(positive, scores[order])
        pairs = self._positives * self._negatives
        value = float(beaten[positive].sum() / pairs)
        return value, np.bincount(users, weights=beaten, minlength=self._units) / pairs - value * self._expected

    def _count_beaten(self, positive: Array, ascending: Array) -> Array:
        """Return, of sorted rows, how many of the other label stand on the right side of each, `float64 (rows,)`.

        Of a positive row the negatives below it, of a negative row the positives above it; ties count half.
        """
        positives_before = np.cumsum(positive)
        positives_before -= positive
        negatives_before = np.arange(positive.size) - positives_before
        beaten = np.where(positive, negatives_before, self._positives - positives_before).astype(np.float64)
        is_tied = ascending[1:] == ascending[:-1]
        if is_tied.any():
            # Only rows that share their score, which are few as a rule: [start, end) are runs of them.
            change = np.diff(is_tied.astype(np.int8), prepend=0, append=0)
            starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1) + 1
            tied_positives = positives_before[ends - 1] + positive[ends - 1] - positives_before[starts]
            of_positive = negatives_before[starts] + (ends - starts - tied_positives) / 2
            of_negative = self._positives - positives_before[starts] - tied_positives / 2
            run = np.repeat(np.arange(starts.size), ends - starts)
            row = np.arange(run.size) + np.repeat(starts - np.cumsum(ends - starts) + (ends - starts), ends - starts)
            beaten[row] = np.where(positive[row], of_positive[run], of_negative[run])
        return beaten
