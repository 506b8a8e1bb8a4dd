"""What is ranked on rows that were exposed at random, beside what the recommender of the log chose to expose."""

from __future__ import annotations

from dataclasses import dataclass

from funrec.comparison.compare import COUNTS, Comparison
from funrec.comparison.measuring import marked, split_of
from funrec.comparison.recipes import Recipe
from funrec.metrics.sorting import Array

RANDOM = "random"


@dataclass(frozen=True)
class Exposure:
    """One metric of one recipe on both kinds of rows.

    Attributes:
        recipe: The recipe.
        metric: The metric on standard exposure.
        standard: By run, `(seeds,)`.
        random: Likewise on random exposure.
    """

    recipe: Recipe
    metric: str
    standard: Array
    random: Array

    @property
    def difference(self) -> Array:
        """Random less standard, `(seeds,)`."""
        return self.random - self.standard


def exposures(comparison: Comparison) -> list[Exposure]:
    """Return the shown metrics that were measured on randomly exposed rows too, recipes inside metrics."""
    found = []
    for metric in comparison.metrics:
        other = marked(metric.partition("@")[0], RANDOM)
        if metric.startswith(COUNTS) or split_of(metric) == RANDOM:
            continue
        for recipe in comparison.recipes:
            standard, random = comparison.values(recipe, metric), comparison.values(recipe, other)
            if standard.size and standard.size == random.size:
                found.append(Exposure(recipe, metric, standard, random))
    return found
