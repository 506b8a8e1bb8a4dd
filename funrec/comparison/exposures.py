"""What is ranked on rows that were exposed at random, beside what the recommender of the log chose to expose."""

from __future__ import annotations

from dataclasses import dataclass

from funrec.comparison.compare import Comparison
from funrec.comparison.measuring import marked, split_of
from funrec.comparison.variants import Variant
from funrec.metrics import is_count
from funrec.metrics.sorting import Array

RANDOM = "random"


@dataclass(frozen=True)
class Exposure:
    """One metric of one variant on both kinds of rows.

    Attributes:
        variant: The variant.
        metric: The metric on standard exposure.
        standard: By run, `(seeds,)`.
        random: Likewise on random exposure.
    """

    variant: Variant
    metric: str
    standard: Array
    random: Array

    @property
    def difference(self) -> Array:
        """Random less standard, `(seeds,)`."""
        return self.random - self.standard


def exposures(comparison: Comparison) -> list[Exposure]:
    """Return the shown metrics that were measured on randomly exposed rows too, variants inside metrics."""
    found = []
    for metric in comparison.metrics:
        other = marked(metric.partition("@")[0], RANDOM)
        if is_count(metric) or split_of(metric) == RANDOM:
            continue
        for variant in comparison.variants:
            standard, random = comparison.values(variant, metric), comparison.values(variant, other)
            if standard.size and standard.size == random.size:
                found.append(Exposure(variant, metric, standard, random))
    return found
