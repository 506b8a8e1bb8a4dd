"""Squared error."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Prediction, ValueLoss


class SquaredError(ValueLoss):
    """`(value - y)^2`."""

    paper = "least squares"

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        return tf.square(self.residual(label, prediction))
