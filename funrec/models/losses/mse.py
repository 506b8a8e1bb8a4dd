"""Squared error."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction


class SquaredError(Loss):
    """`(value - y)^2`."""

    paper = "least squares"
    kind = "regression"

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        return tf.square(prediction.outputs[0] - label)
