"""Log loss of labels that are not all seen yet."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction
from funrec.utils.specs import Share


class DelayedFeedback(Loss):
    """Log loss in which a label of 0 may be a positive one that is still to come.

        likelihood:  -(y log p + (1 - y) log(1 - p F))
        importance:  -(y / F log p + (1 - y) (1 - p) / (1 - p F) log(1 - p)),     no gradient through the weights

    `F` is the chance that a positive label of the row is seen by the end of training: the law of delays at the time
    that has passed since the row, see `funrec.data.preparation.delays`. The first is Chapelle's likelihood (KDD 2014,
    eq. 8) with that law in place of an exponential one. The second weighs rows as the fake-negative weighted loss
    (Ktena et al., RecSys 2019) and ES-DFM (Yang et al., AAAI 2021) do, for a log that is read once: a row of label 0
    counts by its chance of being a true negative. Its gradient is that of the likelihood over `F`.

    Args:
        weighting: Which of the two.
        least_observed: With `importance`, rows whose `F` is less do not count: the largest weight is one over it.
    """

    paper = "Chapelle, KDD 2014; Ktena et al., RecSys 2019"
    reads_delays = True

    def __init__(
        self, weighting: Literal["likelihood", "importance"] = "likelihood", least_observed: Share = 0.05
    ) -> None:
        self.weighting = weighting
        self.least_observed = least_observed

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        log_p, log_not_p = prediction.probability
        seen = tf.ones_like(log_p) if prediction.observed is None else prediction.observed
        # log((1 - p F) / (1 - p)): softplus of the log odds of a positive label that is still to come
        to_come = tf.nn.softplus(log_p - log_not_p + tf.math.log(tf.maximum(1.0 - seen, 1e-30)))
        if self.weighting == "likelihood":
            return -(label * log_p + (1.0 - label) * (log_not_p + to_come))
        counted = tf.cast(seen >= self.least_observed, tf.float32)
        is_true = tf.stop_gradient(tf.exp(-to_come))
        return -counted * (tf.math.divide_no_nan(label, seen) * log_p + (1.0 - label) * is_true * log_not_p)
