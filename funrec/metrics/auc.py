"""Metrics of one list of rows: exact AUC, average precision, log loss, root mean squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.sorting import Runs, UndefinedMetric, check_rows, sort_runs, undefined_reason


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.

    `AUC = U / (P * N)`, `U = sum over positives (negatives below + negatives tied / 2)` (Mann and Whitney, 1947), from
    one sort, counted in integers and hence exact and independent of the order of rows.

    Args:
        labels: 0/1 labels, `(rows,)`.
        scores: Scores of any scale, the higher the likelier, `(rows,)`.

    Raises:
        UndefinedMetric: If labels are all 0 or all 1, or there is no row.
        ValueError: If lengths differ, a score is NaN, or a label is neither 0 nor 1.
    """
    return auc_of_runs(sort_runs(labels, scores))


def auc_of_runs(runs: Runs) -> float:
    """Return the AUC of rows that `sort_runs` sorted without groups; raises as `auc` does."""
    positives, negatives = int(runs.positives.sum()), int(runs.negatives.sum())
    if reason := undefined_reason(positives, negatives):
        raise UndefinedMetric("AUC", reason)
    at_or_below = np.cumsum(runs.negatives)
    twice = int(np.dot(runs.positives, 2 * at_or_below - runs.tied_negatives))
    return twice / (2 * positives * negatives)


def pr_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve, as average precision: `sum_n (R_n - R_{n-1}) * P_n` over distinct scores.

    Rows of one score enter together, as in scikit-learn's `average_precision_score`, and nothing is interpolated.

    Args:
        labels: 0/1 labels, `(rows,)`.
        scores: Scores of any scale, the higher the likelier, `(rows,)`.

    Raises:
        UndefinedMetric: If no label is 1.
        ValueError: If lengths differ, a score is NaN, or a label is neither 0 nor 1.
    """
    return pr_auc_of_runs(sort_runs(labels, scores))


def pr_auc_of_runs(runs: Runs) -> float:
    """Return the average precision of rows that `sort_runs` sorted without groups; raises as `pr_auc` does."""
    positives, negatives = int(runs.positives.sum()), int(runs.negatives.sum())
    if not positives:
        raise UndefinedMetric("PR-AUC", undefined_reason(positives, negatives) or "no label is 1")
    at_or_above = np.cumsum(runs.positives[::-1])[::-1]
    rows_at_or_above = at_or_above + np.cumsum(runs.negatives[::-1])[::-1] + runs.tied_negatives
    hit = runs.positives > 0
    return float(np.sum(runs.positives[hit] * (at_or_above[hit] / rows_at_or_above[hit])) / positives)


def log_loss(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean negative log likelihood of 0/1 labels under `p = sigmoid(logit)`, in nats, computed in log space.

    A probability is never clipped: an infinite logit costs nothing where it is right and is infinitely wrong elsewhere.

    Args:
        labels: 0/1 labels, `(rows,)`.
        logits: Log odds, `(rows,)`.

    Raises:
        UndefinedMetric: If there is no row.
        ValueError: If lengths differ, a logit is NaN, or a label is neither 0 nor 1.
    """
    positive, logit_array = check_rows(labels, logits)
    if not positive.size:
        raise UndefinedMetric("Log loss", "there is no row")
    margin = np.where(positive, -1.0, 1.0)
    margin *= logit_array
    return float(np.mean(np.logaddexp(0.0, margin)))


def rmse(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Root mean squared error, in the label's unit.

    Args:
        labels: Observed values, `(rows,)`.
        predictions: Predicted values, `(rows,)`.

    Raises:
        UndefinedMetric: If there is no row.
        ValueError: If lengths differ or a value is NaN.
    """
    observed, predicted = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if observed.ndim != 1 or observed.shape != predicted.shape:
        raise ValueError(
            f"labels and predictions should be of one length. Received: {observed.shape} and {predicted.shape}."
        )
    if not observed.size:
        raise UndefinedMetric("RMSE", "there is no row")
    if np.isnan(observed).any() or np.isnan(predicted).any():
        raise ValueError("labels and predictions should not be NaN.")
    return float(np.sqrt(np.mean(np.square(observed - predicted))))
