"""A model's heads as an exported model gives them: calibrated, as probabilities, and fused into one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from funrec.calibration.base import Fitted
from funrec.calibration.curve import Curve
from funrec.models.model import MultiTaskModel
from funrec.runs.formula import Formula, columns_of


class Heads:
    """Names the scores of a model's batches as `funrec predict` does, in double precision where it does so.

    Args:
        model: The model.
        calibration: Curves for its scores, if it is calibrated.
        formula: What `funrec fuse` left, if anything.
    """

    def __init__(self, model: MultiTaskModel, calibration: Fitted | None, formula: Formula | None) -> None:
        self.model = model
        self.calibration, self.formula = calibration, formula
        calibrated = {} if calibration is None else calibration.curves
        self._raw = {task.name: "value" for task in model.tasks if not task.is_binary}
        self._raw |= {task: "score" for task in model.uncalibrated if task not in calibrated}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Return `logit_<head>` and `p_<head>`, or `value_<task>` or `score_<task>`, and a fused `score`: float32."""
        found: dict[str, tf.Tensor] = {}
        for head, score in self.model.scores(self.model(batch, training=False), batch).items():
            score = tf.cast(self._calibrated(head, score, batch["ids"]), tf.float64)
            kind = self._raw.get(head, "p")
            both = [tf.sigmoid(score), score] if kind == "p" else [score]
            found |= dict(zip(columns_of(head, kind), both, strict=True))
        if self.formula is not None:
            found["score"] = _value(self.formula, found)
        return {name: tf.cast(values, tf.float32) for name, values in found.items()}

    def _calibrated(self, head: str, scores: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        fitted = self.calibration
        if fitted is None or head not in fitted.curves:
            return scores
        by_value = fitted.by_value.get(head, {})
        points, pieces = _tables([fitted.curves[head], *by_value.values()])
        x = tf.cast(scores, tf.float64)
        if not by_value:
            piece = tf.reduce_sum(tf.cast(x[:, None] >= points, tf.int32), axis=1)
        else:
            curve_of = np.zeros(max(by_value) + 2, np.int32)  # the last for all values after it
            curve_of[list(by_value)] = np.arange(1, len(by_value) + 1)
            curve = tf.gather(curve_of, tf.minimum(ids[:, fitted.place], len(curve_of) - 1))
            above = tf.cast(x[:, None] >= tf.gather(points, curve), tf.int32)
            piece = curve * (points.shape[1] + 1) + tf.reduce_sum(above, axis=1)
        start, height, slope = (tf.gather(column, piece) for column in pieces)
        return tf.cast(height + slope * (x - start), tf.float32)


def _tables(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves' points, `(curves, most)`, and starts, heights and slopes of their straight pieces,
    `(3, curves * (most + 1))`: a piece per number of points that are not above a score."""
    most = max(len(curve.scores) for curve in curves)
    points = np.full((len(curves), most), np.inf)
    pieces = np.zeros((3, len(curves), most + 1))
    for place, curve in enumerate(curves):
        count = len(curve.scores)
        points[place, :count] = curve.scores
        inner = np.diff(curve.log_odds) / np.diff(curve.scores)
        pieces[0, place, : count + 1] = [curve.scores[0], *curve.scores]
        pieces[1, place, : count + 1] = [curve.log_odds[0], *curve.log_odds]
        pieces[2, place, : count + 1] = [curve.below, *inner, curve.above]
    return points, pieces.reshape(3, -1)


def _value(formula: Formula, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    total = tf.constant(0.0, tf.float64)
    for term in formula.terms:
        product = tf.constant(term.coefficient, tf.float64)
        for name, power in term.powers.items():
            product *= values[name] if power == 1 else tf.pow(values[name], tf.constant(power, tf.float64))
        total += product
    return total
