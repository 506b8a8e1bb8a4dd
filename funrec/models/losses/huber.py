"""Huber loss."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Prediction, ValueLoss
from funrec.utils.specs import PositiveNumber


class Huber(ValueLoss):
    """Squared error near the value, absolute far from it: `r^2 / 2` up to `delta`, then `delta (|r| - delta / 2)`.

    Huber, Annals of Mathematical Statistics 1964. Rows far off pull with a bounded force.

    Args:
        delta: Where the square ends, in the label's unit; of a `duration` task, in units of its mean.
    """

    paper = "Huber, Annals of Mathematical Statistics 1964"

    def __init__(self, delta: PositiveNumber = 1.0) -> None:
        self.delta = delta

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        return huber(self.residual(label, prediction), self.delta)


def huber(residual: tf.Tensor, delta: float) -> tf.Tensor:
    """Return the Huber loss of every residual."""
    size = tf.abs(residual)
    near = tf.minimum(size, delta)
    return near * (size - 0.5 * near)
