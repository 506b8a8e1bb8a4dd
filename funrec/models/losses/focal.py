"""Focal loss."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction
from funrec.utils.specs import NotNegative, Share


class Focal(Loss):
    """Log loss with less weight on rows that are already right: `-a_t (1 - p_t)^gamma log p_t`.

    `p_t` is `p` where the label is 1 and `1 - p` elsewhere, `a_t` likewise `alpha` and `1 - alpha` (Lin et al., ICCV
    2017, eq. 4-5). Its minimum is not the true probability: expect scores that need calibration.

    Args:
        gamma: How fast the weight falls; 0 for log loss.
        alpha: The weight of positives, with `1 - alpha` that of negatives; None leaves both at 1.
    """

    paper = "Lin et al., ICCV 2017"

    def __init__(self, gamma: NotNegative = 2.0, alpha: Share | None = None) -> None:
        self.gamma = gamma
        self.alpha = alpha

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        log_p, log_not_p = prediction.probability
        positive = label * tf.exp(self.gamma * log_not_p) * log_p
        negative = (1.0 - label) * tf.exp(self.gamma * log_p) * log_not_p
        if self.alpha is None:
            return -(positive + negative)
        return -(self.alpha * positive + (1.0 - self.alpha) * negative)
