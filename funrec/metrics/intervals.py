"""How much each user moves a metric: influence values, from which intervals are made, and the bootstrap over users.

Users are the sampling unit: rows of one user resemble each other, so that an interval over rows is too narrow. A metric
of a sample of users is, to first order, its true value plus a sum of one number per user, that user's *influence*. The
influence values sum to zero, and the sum of their squares is the metric's sampling variance. A difference between two
models scored on the same rows has the difference of their influence values, hence is paired; a mean over
tasks or seeds has their mean. Where the data has no group column every row is a user of its own.

The bootstrap weighs each user by the number of times that it was drawn, the same for every run: hence paired too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from funrec.metrics.sorting import Array, UndefinedMetric
from funrec.utils.errors import InputError

if TYPE_CHECKING:
    from funrec.metrics.base import MeanMetric, Metric, Sample

#: Below this the bootstrap's own noise shows in the second digit of a standard error (`1 / sqrt(2 resamples)`).
FEWEST = 100
#: Resamples for a metric without influence values, unless another number is given.
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

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        """Return the metric and how it varies with the users.

        Args:
            scores: Scores of every row of the split, `(rows,)`.
            resamples: Where given, the second value is over resamples instead of users.

        Returns:
            The value, and a vector with the sum of squares of the value's sampling variance: influence values
            `float64 (units,)`, or with resamples the scaled deviations `float64 (resamples,)`.

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

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
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
        if resamples is not None:
            present = np.flatnonzero(weights)
            return value, slope * resamples.ratio(present, sums[present], weights[present])
        return value, slope * (sums - weights * mean) / weights.sum() * small_sample(self.count)


class Bootstrapped:
    """Any metric, measured again on every resample: slow, and always possible."""

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self._metric, self._sample = metric, sample
        self._default: Resamples | None = None
        self.count = int(np.count_nonzero(np.bincount(sample.units, minlength=sample.num_units)))

    @property
    def is_defined(self) -> bool:
        try:
            self._metric.value(self._sample.unscored())
        except UndefinedMetric:
            return False
        return True

    def measure(self, scores: Array, resamples: Resamples | None = None) -> tuple[float, Array]:
        rows = self._sample.scored(scores)
        if resamples is None:
            resamples = self._default = self._default or Resamples(self._sample.num_units, RESAMPLES)
        values = np.full(len(resamples), np.nan)
        for place, times in enumerate(resamples):
            with suppress(UndefinedMetric):
                values[place] = self._metric.value(rows.drawn(times))
        return self._metric.value(rows), scaled_deviations(values)


class Resamples:
    """Draws of as many users as there are, with replacement: how often each was drawn, for every resample."""

    def __init__(self, units: int, count: int, seed: int = 0) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < FEWEST:
            raise InputError(f"bootstrap should be a whole number of at least {FEWEST} resamples. Received: {count}.")
        random = np.random.default_rng(seed)
        # One byte is enough: to draw one user 256 times has a chance of about 1 in 10^500.
        self._times = np.empty((count, units), np.uint8)
        for times in self._times:
            times[:] = np.bincount(random.integers(0, units, units), minlength=units)

    def __len__(self) -> int:
        return len(self._times)

    def __iter__(self) -> Iterator[Array]:
        return iter(self._times)

    def auc(self, positives: Array, negatives: Array, below: Array, at_or_below: Array) -> Array:
        """Return the scaled deviations of an AUC, `float64 (resamples,)`.

        Args:
            positives: The user of every positive row, `(positives,)`.
            negatives: The user of every negative row, lowest score first, `(negatives,)`.
            below: For each positive row, the number of negative rows that score lower, `(positives,)`.
            at_or_below: Likewise, with those of the same score.
        """
        values = np.empty(len(self))
        through = np.zeros(negatives.size + 1, np.int64)
        tied = np.flatnonzero(below != at_or_below)
        low, high = below[tied], at_or_below[tied]
        for place, times in enumerate(self._times):
            wide = times.astype(np.int64)
            np.cumsum(wide.take(negatives), out=through[1:])
            weights = wide.take(positives)
            # Whole numbers, and no call of a threaded library for so little work.
            pairs = np.einsum("i,i", weights, through.take(below))
            pairs = pairs + np.einsum("i,i", weights[tied], through[high] - through[low]) / 2
            with np.errstate(invalid="ignore", divide="ignore"):
                values[place] = pairs / (weights.sum() * through[-1])
        return scaled_deviations(values)

    def ratio(self, units: Array, numerators: Array, denominators: Array) -> Array:
        """Return the scaled deviations of a ratio of sums over users, `float64 (resamples,)`; all arrays are `(n,)`."""
        both = np.stack([numerators, denominators], axis=1).astype(np.float64)
        sums = np.stack([times[units].astype(np.float64) @ both for times in self._times])
        with np.errstate(invalid="ignore", divide="ignore"):
            return scaled_deviations(sums[:, 0] / sums[:, 1])


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
