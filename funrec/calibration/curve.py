"""A rising curve of straight pieces from scores to log odds: the form in which every calibration is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funrec.metrics.sorting import Array


@dataclass(frozen=True)
class Curve:
    """Straight between its points and beyond them, and rising everywhere, so that no two scores become one.

    Attributes:
        scores: Where the points are, rising.
        log_odds: How high they are, rising.
        below, above: The slope before the first point, and after the last.
    """

    scores: tuple[float, ...]
    log_odds: tuple[float, ...]
    below: float
    above: float

    def __call__(self, scores: Array) -> Array:
        """Return log odds, `float64 (rows,)`."""
        wide = np.asarray(scores, np.float64)
        value: Array = np.interp(wide, self.scores, self.log_odds)
        value += self.below * np.minimum(wide - self.scores[0], 0.0)
        return value + self.above * np.maximum(wide - self.scores[-1], 0.0)

    @property
    def steepest(self) -> float:
        """Its largest slope."""
        inner = np.diff(self.log_odds) / np.diff(self.scores)
        return float(max(self.below, self.above, *inner))

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Curve:
        """Read what `dataclasses.asdict` gave to JSON."""
        return Curve(tuple(values["scores"]), tuple(values["log_odds"]), values["below"], values["above"])
