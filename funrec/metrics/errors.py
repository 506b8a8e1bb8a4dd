"""How far predictions are from what was observed: log loss, root mean squared error, mean absolute error, bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.base import Entries, MeanMetric, TaskRows
from funrec.metrics.sorting import Array, check_rows


def log_losses(labels: ArrayLike, logits: ArrayLike) -> Array:
    """Negative log likelihood of 0/1 labels under `p = sigmoid(logit)`, in nats, computed in log space, `(rows,)`.

    A probability is never clipped: an infinite logit costs nothing where it is right and is infinitely wrong elsewhere.

    Raises:
        ValueError: If lengths differ, a logit is NaN, or a label is neither 0 nor 1.
    """
    positive, logit_array = check_rows(labels, logits)
    margin = np.where(positive, -1.0, 1.0)
    margin *= logit_array
    return np.logaddexp(0.0, margin)


class LogLoss(MeanMetric):
    """Mean negative log likelihood of the labels, in nats."""

    name = "log_loss"
    higher_is_better = False
    needs_probabilities = True
    in_table = False

    def entries(self, rows: TaskRows) -> Entries:
        return Entries(log_losses(rows.labels, rows.scores))


class RMSE(MeanMetric):
    """Root mean squared error, in the label's unit."""

    name = "rmse"
    kind = "regression"
    higher_is_better = False
    is_root = True

    def entries(self, rows: TaskRows) -> Entries:
        return Entries(np.square(residuals(rows.labels, rows.scores)))


class MAE(MeanMetric):
    """Mean absolute error, in the label's unit."""

    name = "mae"
    kind = "regression"
    higher_is_better = False

    def entries(self, rows: TaskRows) -> Entries:
        return Entries(np.abs(residuals(rows.labels, rows.scores)))


class Bias(MeanMetric):
    """The mean of predictions less labels, in the label's unit: above 0 where too much is predicted."""

    name = "bias"
    kind = "regression"
    higher_is_better = None

    def entries(self, rows: TaskRows) -> Entries:
        return Entries(-residuals(rows.labels, rows.scores))


def residuals(labels: ArrayLike, predictions: ArrayLike) -> Array:
    """Return observed less predicted values, `float64 (rows,)`.

    Raises:
        ValueError: If lengths differ or a value is NaN.
    """
    observed, predicted = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if observed.ndim != 1 or observed.shape != predicted.shape:
        raise ValueError(
            f"labels and predictions should be of one length. Received: {observed.shape} and {predicted.shape}."
        )
    if np.isnan(observed).any() or np.isnan(predicted).any():
        raise ValueError("labels and predictions should not be NaN.")
    return observed - predicted
