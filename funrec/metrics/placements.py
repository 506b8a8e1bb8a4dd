"""The AUC with how much each user moves it: placement values, summed by user."""

from __future__ import annotations

import numpy as np

from funrec.metrics.sorting import Array, UndefinedMetric, undefined_reason


def auc_influence(positive: Array, scores: Array, users: Array, units: int) -> tuple[float, Array]:
    """Return the AUC and per-user influence values, whose sum of squares is its sampling variance.

    `influence_u = sum over u's positives (V10 - AUC) / P + sum over u's negatives (V01 - AUC) / N`, where a positive's
    placement V10 is the share of negatives below it and a negative's V01 the share of positives above it, ties counting
    half (DeLong et al., Biometrics 1988; by cluster: Obuchowski, Biometrics 1997). The influence values of two models
    on the same rows may be subtracted: the sum of squares is then the variance of the difference.

    Args:
        positive: Whether a row's label is 1, `bool (rows,)`.
        scores: Scores of any scale, the higher the likelier, `(rows,)`.
        users: A code from 0 per row's user, `(rows,)`.
        units: Number of codes, which may be larger than that of the users among the rows.

    Returns:
        The AUC and `float64 (units,)`.

    Raises:
        UndefinedMetric: If labels are all 0 or all 1, or there is no row.
    """
    positives = int(np.count_nonzero(positive))
    negatives = positive.size - positives
    if reason := undefined_reason(positives, negatives):
        raise UndefinedMetric("AUC", reason)
    order = np.argsort(scores)
    positive, users, scores = positive[order], users[order], scores[order]
    starts = np.flatnonzero(np.concatenate(([True], scores[1:] != scores[:-1])))
    lengths = np.diff(starts, append=scores.size)
    positives_through = np.concatenate(([0], np.cumsum(positive)))[np.append(starts, scores.size)]
    positives_tied, positives_below = np.diff(positives_through), positives_through[:-1]
    negatives_tied, negatives_below = lengths - positives_tied, starts - positives_below
    of_positive = (negatives_below + negatives_tied / 2) / negatives
    of_negative = 1 - (positives_below + positives_tied / 2) / positives
    value = float(np.dot(positives_tied, of_positive) / positives)
    of_positive = (of_positive - value) / positives
    of_negative = (of_negative - value) / negatives
    placement = np.where(positive, np.repeat(of_positive, lengths), np.repeat(of_negative, lengths))
    return value, np.bincount(users, weights=placement, minlength=units)
