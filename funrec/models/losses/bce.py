"""Binary cross-entropy."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction


class BinaryCrossEntropy(Loss):
    """`-(y log p + (1 - y) log(1 - p))`, the log loss."""

    paper = "log loss"

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        probability = prediction.probability
        return -(label * probability.log_p + (1.0 - label) * probability.log_not_p)
