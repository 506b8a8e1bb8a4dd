"""Quantile regression."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Prediction, ValueLoss
from funrec.utils.specs import Share


class QuantileError(ValueLoss):
    """The pinball loss, whose minimum is a quantile: `q r` where `r = y - value` is positive, `(q - 1) r` elsewhere.

    Koenker & Bassett, Econometrica 1978. The prediction is the label's `quantile`, not its mean.

    Args:
        quantile: Which one; a half for the median.
    """

    paper = "Koenker & Bassett, Econometrica 1978"

    def __init__(self, quantile: Share = 0.5) -> None:
        self.quantile = quantile

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        residual = self.residual(label, prediction)
        return tf.maximum(self.quantile * residual, (self.quantile - 1.0) * residual)
