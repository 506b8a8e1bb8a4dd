"""The paired bootstrap over users, in place of influence values.

A resample is a weight per user, the number of times that user was drawn, and is the same for every run: hence paired.
Rows are sorted once per run; a resample reweighs the sorted arrays.
"""

from __future__ import annotations

import numpy as np

from funrec.metrics.sorting import Array
from funrec.utils.errors import InputError

#: Below this the bootstrap's own noise shows in the second digit of a standard error (`1 / sqrt(2 resamples)`).
FEWEST = 100


class Resamples:
    """Draws of as many users as there are, with replacement.

    Args:
        units: Number of users, or of rows where there is no group column.
        count: Number of resamples.
        seed: Of the draws.

    Raises:
        InputError: If there are fewer than `FEWEST`.
    """

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
        """Return the scaled deviations of `sum of numerators / sum of denominators`, `float64 (resamples,)`.

        Args:
            units: Users that have a part in it, `(n,)`.
            numerators: What each adds above the line, `(n,)`.
            denominators: What each adds below it, `(n,)`.
        """
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
