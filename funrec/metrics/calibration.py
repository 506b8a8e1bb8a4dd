"""Do predicted probabilities mean what they say?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from funrec.metrics.base import Metric, TaskRows
from funrec.metrics.sorting import Array, UndefinedMetric, check_rows


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Mean prediction against observed rate, by bins of equal mass, lowest predictions first; no bin is empty.

    Attributes:
        predicted: Mean predicted probability, `float64 (bins,)`.
        observed: Share of rows with label 1, `float64 (bins,)`.
        rows: Number of rows, `int64 (bins,)`.
    """

    predicted: Array
    observed: Array
    rows: Array


def predicted_over_observed(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Sum of predicted probabilities over the number of positive rows: 1 is right in the mean, 1.1 is 10% too high.

    Raises:
        UndefinedMetric: If no label is 1.
        ValueError: If lengths differ, a label is neither 0 nor 1, or a probability is outside 0 to 1.
    """
    positive, predicted = _check_probabilities(labels, probabilities)
    if not positive.any():
        raise UndefinedMetric("Predicted/observed", "no label is 1")
    return float(np.sum(predicted) / np.count_nonzero(positive))


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, num_bins: int = 10) -> ReliabilityBins:
    """Sort rows by probability and cut them into bins of equal mass (equally many rows).

    Equal mass rather than equal width: on rare labels nearly all rows would share the first bin of equal width. Rows of
    one probability stay together in the bin of their middle row, so the order of rows has no say, and bins that
    this leaves empty are dropped.

    Raises:
        UndefinedMetric: If there is no row.
        ValueError: If lengths differ, a label is neither 0 nor 1, or a probability is outside 0 to 1.
    """
    positive, predicted = _check_probabilities(labels, probabilities)
    if not positive.size:
        raise UndefinedMetric("Calibration", "there is no row")
    order = np.argsort(predicted)
    predicted, positive = predicted[order], positive[order]
    starts = np.flatnonzero(np.concatenate(([True], predicted[1:] != predicted[:-1])))
    counts = np.diff(starts, append=predicted.size)
    bin_of_run = (starts + (counts - 1) // 2) * num_bins // predicted.size
    bin_starts = starts[np.flatnonzero(np.concatenate(([True], bin_of_run[1:] != bin_of_run[:-1])))]
    rows = np.diff(bin_starts, append=predicted.size)
    return ReliabilityBins(
        predicted=np.add.reduceat(predicted, bin_starts) / rows,
        observed=np.add.reduceat(positive.astype(np.int64), bin_starts) / rows,
        rows=rows,
    )


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, num_bins: int = 10) -> float:
    """Mean distance of prediction and observation: `sum_b rows_b / rows * |predicted_b - observed_b|`.

    Naeini et al., AAAI 2015, on bins of equal mass (Nixon et al., CVPR workshops 2019); see `reliability_bins`, whose
    arguments and errors these are.
    """
    bins = reliability_bins(labels, probabilities, num_bins)
    return float(np.dot(bins.rows, np.abs(bins.predicted - bins.observed)) / bins.rows.sum())


class PredictedOverObserved(Metric):
    """Sum of predicted probabilities over the number of positive rows: 1 is right in the mean."""

    name = "ratio"
    higher_is_better = None
    needs_probabilities = True
    in_table = False
    each_epoch = False

    def value(self, rows: TaskRows) -> float:
        return predicted_over_observed(rows.labels, rows.probabilities)


class ExpectedCalibrationError(Metric):
    """Mean distance of predicted and observed rates over 10 bins of equal mass (Naeini et al., AAAI 2015)."""

    name = "ece"
    higher_is_better = False
    needs_probabilities = True
    in_table = False
    each_epoch = False

    def value(self, rows: TaskRows) -> float:
        return expected_calibration_error(rows.labels, rows.probabilities)


def _check_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    positive, predicted = check_rows(labels, np.asarray(probabilities, np.float64))
    if predicted.size and not (predicted.min() >= 0 and predicted.max() <= 1):
        raise ValueError(f"probabilities should be from 0 to 1. Received: {predicted.min()} to {predicted.max()}.")
    return positive, predicted
