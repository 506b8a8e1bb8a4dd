"""Joint ranking and calibration."""

from __future__ import annotations

from typing import Annotated

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.bce import BinaryCrossEntropy
from funrec.models.losses.groups import Groups
from funrec.utils.specs import between


class JRC(Loss):
    """Log loss and a listwise loss on two logits of one tower, so that scores both rank and mean something.

        calibration = -log softmax(f(x))_y        ranking = -log (exp f(x)_y / sum_{j in the group} exp f(x_j)_y)

    Sheng et al., KDD 2023; `alpha` weighs the first, `1 - alpha` the second, both means over rows. The tower's
    outputs are `d` and `s`, with `f_1 = s + d / 2` and `f_0 = s - d / 2`: `d` is the logit, as of any other loss.

    Args:
        alpha: The calibration's share.
    """

    paper = "Sheng et al., KDD 2023"
    needs_groups = True
    outputs = 2

    def __init__(self, alpha: Annotated[float, between(0, 1)] = 0.5) -> None:
        self.alpha = alpha
        self._calibration = BinaryCrossEntropy()

    def over_batch(
        self, label: tf.Tensor, prediction: Prediction, weight: tf.Tensor | None, groups: tf.Tensor | None
    ) -> tf.Tensor:
        assert groups is not None
        lists = Groups(groups, weight)
        half, level = 0.5 * prediction.outputs[0], prediction.outputs[1]
        log_one, log_zero = lists.log_softmax(level + half), lists.log_softmax(level - half)
        ranking = -(label * log_one + (1.0 - label) * log_zero)
        mean = tf.math.divide_no_nan(tf.reduce_sum(ranking * lists.weight), tf.reduce_sum(lists.weight))
        calibration = self._calibration.over_batch(label, prediction, weight, groups)
        return self.alpha * calibration + (1.0 - self.alpha) * mean
