"""Platt scaling."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from funrec.calibration.base import Calibration
from funrec.calibration.curve import Curve
from funrec.metrics.sorting import Array

#: The least slope: a curve that fell would turn the order of the rows around.
LEAST_SLOPE = 1e-3
#: Variance of the slope's prior, for standardised scores: it matters only where few rows are told apart perfectly.
PRIOR = 100.0


class Platt(Calibration):
    """One slope and one intercept: `log odds = a * score + b` (Platt, Advances in Large Margin Classifiers, 1999).

    Labels are fitted as they are; with `n` rows of a label, Platt puts `(n + 1) / (n + 2)` in place of a 1 and
    `1 / (n + 2)` in place of a 0, which tells on few rows alone.
    """

    def curve(self, scores: Array, labels: Array) -> Curve:
        centre, scale = float(scores.mean()), float(scores.std()) or 1.0
        regression = LogisticRegression(C=PRIOR, solver="newton-cholesky", tol=1e-8)
        fitted = regression.fit((scores - centre)[:, None] / scale, labels)
        slope, height = float(fitted.coef_[0, 0]) / scale, float(fitted.intercept_[0])
        if slope < LEAST_SLOPE:
            rate = float(labels.mean())
            slope, height = LEAST_SLOPE, float(np.log(rate / (1 - rate)))
        return Curve((centre,), (height,), slope, slope)
