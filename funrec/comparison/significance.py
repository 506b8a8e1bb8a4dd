"""Is a difference between two models, or two variants, more than noise?

Two things vary. *Users*: another sample of them gives another value of the same trained model. *Seeds*: another seed
gives another trained model of the same variant, by more than the users do as a rule. Variants stand to seeds as
diagnostic methods stand to readers in studies of many readers and many cases, so the variance is that of Obuchowski and
Rockette (1995) with readers nested in methods: with `k` seeds a side, values `x` and the mean influence vector `d`,

    variance = max(|d_a - d_b|^2 - t_a^2 / k_a - t_b^2 / k_b, 0) + s_a^2 / k_a + s_b^2 / k_b

where `s^2` is the variance of the values over seeds and `t^2` the part of it that users alone explain (the variance of
a seed's own influence values around `d`). The first term is thus the part of the users' noise that all seeds of a side
share; the rest of it is in `s^2` already and must not count twice. The bound at zero is theirs (Hillis, Statistics in
Medicine 26, 2007, whose degrees of freedom are also these: Satterthwaite's, from the terms in `s^2`).

Seeds of the two sides count as independent, also where their numbers agree. Models that share their start and the order
of rows may be correlated under one seed: for ten pairs of models on the KuaiRand sample the correlation over five seeds
was between -0.9 and 1.0, 0.35 in the mean. Pairing by seed would halve the degrees of freedom for that; without it an
interval is, where they are correlated, too wide rather than too narrow.

With fewer seeds than `SEEDS_FOR_VARIANTS` on a side the seed variance is unknown. The claim is then about the
trained models themselves: `variance = |d_a - d_b|^2`, users alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funrec.metrics.sorting import Array

LEVEL = 0.05
SEEDS_FOR_VARIANTS = 3
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of one variant, measured on one split.

    Attributes:
        values: Every run's metrics, `float64 (runs, metrics)`.
        deviations: Mean over runs of the metrics' influence values, `float64 (metrics, users)`; or of their deviations
            over resamples, `(metrics, resamples)`. A vector's sum of squares is a sampling variance.
        products: Mean over runs of each run's own inner products of them, `float64 (metrics, metrics)`.
        counts: Users behind each metric, `int64 (metrics,)`.
    """

    values: Array
    deviations: Array
    products: Array
    counts: Array

    @property
    def seeds(self) -> int:
        """Number of runs."""
        return len(self.values)

    def deviation(self, weights: Array) -> Array:
        """Return the influence values of a weighted sum of metrics, `(users,)`."""
        counted = np.flatnonzero(weights)
        return weights[counted] @ self.deviations[counted]

    def seed_variance(self, weights: Array) -> tuple[float, float]:
        """Return `s^2` and `t^2` of a weighted sum of metrics: see the module. There must be two seeds or more."""
        total = float(np.var(self.values @ weights, ddof=1))
        mean = self.deviation(weights)
        own = self.seeds / (self.seeds - 1) * float(weights @ self.products @ weights - mean @ mean)
        return total, max(own, 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, or a difference, with its interval.

    Attributes:
        value: The estimate.
        low: Lower end of the 95% interval; NaN where there are too few users for one.
        high: Upper end.
        standard_error: Its standard error.
        degrees: Degrees of freedom of Student's t.
        p_value: Two-sided, of a value of zero.
        about_variants: Whether seeds vary too; else it is about the trained models as they are.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees: float
    p_value: float
    about_variants: bool


class Accumulator:
    """Adds up the runs of a variant, so that only one run's influence values are held at a time.

    `counts` are the users behind each metric, `(metrics,)`.
    """

    def __init__(self, counts: Array) -> None:
        self._counts = counts
        self._values: list[Array] = []
        self._deviations: Array = np.zeros(0)
        self._products: Array = np.zeros(0)

    def add(self, values: Array, deviations: Array) -> None:
        """Add a run: its metrics `(metrics,)`, and their influence values `(metrics, users)`, which are overwritten."""
        products = deviations @ deviations.T
        if self._values:
            deviations += self._deviations
            products += self._products
        self._values.append(values)
        self._deviations, self._products = deviations, products

    def result(self) -> Measured:
        """Return the measurements of the variant."""
        runs = len(self._values)
        return Measured(np.stack(self._values), self._deviations / runs, self._products / runs, self._counts)


def estimate(
    ours: Measured,
    weights: Array,
    base: Measured | None = None,
    base_weights: Array | None = None,
    value: float | None = None,
) -> Estimate:
    """Estimate a weighted sum of metrics, or its difference from another variant's.

    Args:
        ours: The variant.
        weights: What each metric counts, `(metrics,)`: 1 for a single one, `1 / tasks` for the tasks of a macro.
        base: The other variant, measured on the same rows.
        base_weights: What its metrics count; `weights` if None.
        value: The estimate, where the weighted sum is a linear approximation that only the variance is for.
    """
    sides = [(ours, weights)]
    difference = float(np.mean(ours.values @ weights))
    deviations = ours.deviation(weights)
    if base is not None:
        of_base = weights if base_weights is None else base_weights
        sides.append((base, of_base))
        difference -= float(np.mean(base.values @ of_base))
        deviations = deviations - base.deviation(of_base)
    value = difference if value is None else value
    users = int(min(ours.counts[side_weights != 0].min(initial=2**31) for _, side_weights in sides))
    if users < 2:
        return Estimate(value, np.nan, np.nan, np.nan, np.nan, np.nan, False)
    variance = float(deviations @ deviations)
    terms = [(variance, users - 1)]
    about_variants = all(side.seeds >= SEEDS_FOR_VARIANTS for side, _ in sides)
    if about_variants:
        terms = []
        for side, side_weights in sides:
            total, own = side.seed_variance(side_weights)
            terms.append((total / side.seeds, side.seeds - 1))
            variance -= own / side.seeds
        terms.append((max(variance, 0.0), users - 1))
    return _with_interval(value, terms, about_variants)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: claims at or below `LEVEL` are all true 95% of the time.

    Holm, Scandinavian Journal of Statistics 6 (1979). What has no p-value (NaN) is no test and keeps NaN.
    """
    p = np.asarray(p_values, np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def mark(difference: float, adjusted_p: float, higher_is_better: bool) -> str:
    """Return `better`, `worse` or `cannot tell`."""
    if not adjusted_p <= LEVEL or difference == 0:
        return CANNOT_TELL
    return BETTER if (difference > 0) == higher_is_better else WORSE


def _with_interval(value: float, terms: Sequence[tuple[float, float]], about_variants: bool) -> Estimate:
    """Return the estimate whose variance is the sum of independent terms, each with its degrees of freedom."""
    from scipy.special import stdtr, stdtrit  # it takes a while to import

    variance = sum(term for term, _ in terms)
    if variance <= 0:
        # Two models that rank alike have no difference and no variance.
        return Estimate(value, value, value, 0.0, np.inf, float(value == 0), about_variants)
    error = float(np.sqrt(variance))
    degrees = variance**2 / sum(term**2 / freedom for term, freedom in terms)
    reach = error * float(stdtrit(degrees, 1 - LEVEL / 2))
    p_value = 2 * float(stdtr(degrees, -abs(value) / error))
    return Estimate(value, value - reach, value + reach, error, degrees, p_value, about_variants)
