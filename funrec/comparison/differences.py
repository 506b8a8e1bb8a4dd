"""Differences of variants from a baseline, with one family of tests per table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from funrec.comparison.measuring import Meter
from funrec.comparison.significance import Estimate, Measured, estimate, holm, mark
from funrec.comparison.variants import Variant, partner
from funrec.metrics import is_higher_better
from funrec.metrics.sorting import Array
from funrec.runs.tables import MACRO

#: Mean relative gain over the tasks; see `delta_m`.
DELTA_M = "delta_m"


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant's difference from a baseline in one metric.

    Attributes:
        metric: A metric, or `delta_m`.
        estimate: The difference with its plain 95% interval.
        adjusted_p: Holm's, over all differences of the same table; NaN where there are too few users to say.
        mark: `better`, `worse` or `cannot tell`; follows `adjusted_p`.
    """

    variant: Variant
    baseline: Variant
    metric: str
    estimate: Estimate
    adjusted_p: float = np.nan
    mark: str = ""

    @property
    def claim(self) -> str:
        """What it is about: `variants`, or `trained models`."""
        return "variants" if self.estimate.about_variants else "trained models"


@dataclass
class Family:
    """The differences of one table: from one baseline, or each variant from its own of several.

    Attributes:
        baselines: The variants to compare with.
        metrics: The metrics to test.
        gains: The metric of every task for `delta_m`; empty for none.
        without: Labels of models that are not compared here.
        differences: What was found.
        unpaired: Variants for which several baselines are equally close.
    """

    baselines: list[Variant]
    metrics: list[str]
    gains: list[str] = field(default_factory=list)
    without: tuple[str, ...] = ()
    differences: list[Difference] = field(default_factory=list)
    unpaired: list[Variant] = field(default_factory=list)

    def add(self, variant: Variant, ours: Measured, kept: dict[int, Measured], meter: Meter) -> None:
        """Compare a variant with its baseline, unless it is one; `kept` has the baselines' measurements by `id`."""
        known = [baseline for baseline in self.baselines if id(baseline) in kept]
        if not known or variant in self.baselines or variant.model.partition(" + ")[0] in self.without:
            return
        baseline = partner(variant, known)
        if baseline is None:
            self.unpaired.append(variant)
            return
        base = kept[id(baseline)]
        for metric in self.metrics:
            self.differences.append(Difference(variant, baseline, metric, estimate(ours, meter.weights(metric), base)))
        if self.gains:
            parts = [(meter.weights(metric), is_higher_better(metric)) for metric in self.gains]
            self.differences.append(Difference(variant, baseline, DELTA_M, delta_m(ours, base, parts)))

    def decide(self) -> None:
        """Give every difference its mark, by Holm's procedure over all of them."""
        adjusted = holm([difference.estimate.p_value for difference in self.differences])
        self.differences = [
            replace(found, adjusted_p=p, mark=mark(found.estimate.value, p, is_higher_better(found.metric)))
            for found, p in zip(self.differences, adjusted, strict=True)
        ]


def delta_m(ours: Measured, base: Measured, parts: Sequence[tuple[Array, bool]]) -> Estimate:
    """Estimate the mean relative gain over tasks, `1/T sum_t sign_t (M_t - B_t) / B_t`.

    Maninis et al., CVPR 2019, eq. 4, with the variant's means `M_t` and the baseline's `B_t`. The interval follows
    from the tasks' influence values by the delta method. `parts` holds for every task its metric as `Meter.weights`
    gives it, and whether higher is better.
    """
    weights, base_weights, value = np.zeros_like(parts[0][0]), np.zeros_like(parts[0][0]), 0.0
    for part, higher_is_better in parts:
        sign = (1 if higher_is_better else -1) / len(parts)
        m, b = float(np.mean(ours.values @ part)), float(np.mean(base.values @ part))
        value += sign * (m - b) / b
        weights += sign / b * part
        base_weights += sign * m / b**2 * part
    return estimate(ours, weights, base, base_weights, value)


def is_macro(metric: str) -> bool:
    """Whether a metric is a mean over tasks."""
    return metric.partition("@")[0].endswith(f"_{MACRO}")


def measure_all(
    variants: Sequence[Variant], meter: Meter, families: Sequence[Family]
) -> dict[tuple[int, str], Estimate]:
    """Measure all variants and fill the families; variants keep the runs whose predictions can be read.

    Baselines come first, so that no more than theirs and one other variant's influence values are held at a time.

    Returns:
        By variant's `id` and metric: its mean over seeds with an interval.
    """
    first = [variant for variant in variants if any(variant in family.baselines for family in families)]
    kept: dict[int, Measured] = {}
    for variant in first:
        variant.runs, measured = meter.measure(variant.runs)
        if measured is not None:
            kept[id(variant)] = measured
    estimates: dict[tuple[int, str], Estimate] = {}
    for variant in variants:
        measured = kept.get(id(variant))
        if variant not in first:
            variant.runs, measured = meter.measure(variant.runs)
        if measured is None:
            continue
        for metric in dict.fromkeys(metric for family in families for metric in family.metrics):
            estimates[id(variant), metric] = estimate(measured, meter.weights(metric))
        for family in families:
            family.add(variant, measured, kept, meter)
    for family in families:
        family.decide()
    return estimates
