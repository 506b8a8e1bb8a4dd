"""Isotonic regression."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression

from funrec.calibration.base import Calibration
from funrec.calibration.curve import Curve
from funrec.metrics.sorting import Array


class Isotonic(Calibration):
    """The rising step function nearest to the labels (Zadrozny and Elkan, KDD 2002), without its ties.

    The points of the curve are the steps' mean scores and rates. Between them it is straight in log odds, and
    before the first and after the last it goes on at its mean slope. A rate of 0 or 1 is taken for half a row.
    """

    def curve(self, scores: Array, labels: Array) -> Curve:
        order = np.argsort(scores, kind="stable")
        scores, labels = scores[order], labels[order]
        steps = IsotonicRegression().fit_transform(scores, labels)
        starts = np.flatnonzero(np.concatenate(([True], steps[1:] > steps[:-1])))
        # Rounding may split a step in two of one rate, between which the curve would not rise.
        rates = np.add.reduceat(labels, starts, dtype=np.float64) / np.diff(starts, append=scores.size)
        starts = starts[np.concatenate(([True], rates[1:] > rates[:-1]))]
        rows = np.diff(starts, append=scores.size)
        rates = np.add.reduceat(labels, starts, dtype=np.float64) / rows
        if rates[0] == 0:
            rates[0] = min(0.5 / (rows[0] + 1), rates[1] / 2)
        if rates[-1] == 1:
            rates[-1] = 1 - min(0.5 / (rows[-1] + 1), (1 - rates[-2]) / 2)
        points, heights = np.add.reduceat(scores, starts) / rows, np.log(rates / (1 - rates))
        slope = (heights[-1] - heights[0]) / (points[-1] - points[0]) if points.size > 1 else 1.0
        return Curve(tuple(points.tolist()), tuple(heights.tolist()), float(slope), float(slope))
