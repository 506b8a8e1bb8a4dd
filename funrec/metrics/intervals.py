"""How much each user moves a metric: influence values, from which intervals are made, and the bootstrap over users.

Users are the sampling unit: rows of one user resemble each other, so that an interval over rows is too narrow. A metric
of a sample of users is, to first order, its true value plus a sum of one number per user, that user's *influence*. The
influence values sum to zero, and the sum of their squares is the metric's sampling variance. A difference between two
models scored on the same rows has the difference of their influence values, hence is paired; a mean over
tasks or seeds has their mean. Where the data has no group column every row is a user of its own.

The bootstrap weighs each user by the number of times that it was drawn, the same for every run: hence paired too.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from funrec.metrics.sorting import Array, UndefinedMetric

if TYPE_CHECKING:
    from funrec.metrics.base import MeanMetric, Metric, Sample

#: Resamples for a metric without influence values: a standard error is then known to 5% (`1 / sqrt(2 resamples)`).
RESAMPLES = 200


class Statistic(Protocol):
    """One metric of one split, prepared once for the scores of any number of runs."""

    @property
    def count(self) -> int:
        """Number of sampling units behind it."""
        ...

    @property
    def is_defined(self) -> bool:
        """Whether it has a value on these rows."""
        ...

    def measure(self, scores: Array) -> tuple[float, Array]:
        """Return the metric and how it varies with the users.

        Args:
            scores: Scores of every row of the split, `(rows,)`.

        Returns:
            The value, and a vector with the sum of squares of the value's sampling variance: influence values
            `float64 (units,)`, or of a metric without them scaled deviations `float64 (resamples,)`.

        Raises:
            ValueError: If a score is NaN.
        """
        ...


class MeanStatistic:
    """A weighted mean, or its square root: `influence_u = (sum of u's w v - mean * sum of u's w) / sum of all w`.

    This is the delta method for a ratio: weights vary with the users too. A root divides by twice its value.
    """

    def __init__(self, metric: MeanMetric, sample: Sample) -> None:
        self._metric, self._sample = metric, sample
        units = metric.entries(sample.unscored()).units
        counted = np.bincount(sample.units if units is None else units, minlength=sample.num_units)
        self.count = int(np.count_nonzero(counted))
        self.is_defined = self.count > 0

    def measure(self, scores: Array) -> tuple[float, Array]:
        sample = self._sample
        entries = self._metric.entries(sample.scored(scores))
        units = sample.units if entries.units is None else entries.units
        mean = float(np.average(entries.values, weights=entries.weights))
        weighted = entries.values if entries.weights is None else entries.values * entries.weights
        sums = np.bincount(units, weights=weighted, minlength=sample.num_units)
        weights = np.bincount(units, weights=entries.weights, minlength=sample.num_units)
        value, slope = mean, 1.0
        if self._metric.is_root:
            value = float(np.sqrt(mean))
            slope = 1 / (2 * value) if value else 0.0
        return value, slope * (sums - weights * mean) / weights.sum() * small_sample(self.count)


class Bootstrapped:
    """Any metric, measured again on every resample: slow, and always possible."""

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self._metric, self._sample = metric, sample
        self.count = int(np.count_nonzero(np.bincount(sample.units, minlength=sample.num_units)))

    @cached_property
    def _resamples(self) -> Array:
        return resample(self._sample.num_units)

    @property
    def is_defined(self) -> bool:
        try:
            self._metric.value(self._sample.unscored())
        except UndefinedMetric:
            return False
        return True

    def measure(self, scores: Array) -> tuple[float, Array]:
        rows = self._sample.scored(scores)
        values = np.full(RESAMPLES, np.nan)
        for place, times in enumerate(self._resamples):
            with suppress(UndefinedMetric):
                values[place] = self._metric.value(rows.drawn(times))
        return self._metric.value(rows), scaled_deviations(values)


def resample(units: int, count: int = RESAMPLES, seed: int = 0) -> Array:
    """Draw as many users as there are, with replacement: how often each was drawn, `uint8 (count, units)`."""
    random = np.random.default_rng(seed)
    # One byte is enough: to draw one user 256 times has a chance of about 1 in 10^500.
    times = np.empty((count, units), np.uint8)
    for row in times:
        row[:] = np.bincount(random.integers(0, units, units), minlength=units)
    return times


def scaled_deviations(values: Array) -> Array:
    """Return deviations from the mean, scaled so that the sum of their squares is the variance of `values`.

    Like influence values they can be subtracted and averaged before they are squared. A resample that leaves one label
    alone has no value; it is the same for all runs, and has no deviation.
    """
    is_defined = np.isfinite(values)
    count = int(is_defined.sum())
    if count < 2:
        return np.zeros_like(values)
    return np.where(is_defined, values - values[is_defined].mean(), 0.0) / np.sqrt(count - 1)


def small_sample(count: int) -> float:
    """Return what makes a sum of squares of so many influence values an unbiased variance; one user has none."""
    return float(np.sqrt(count / (count - 1))) if count > 1 else 0.0
