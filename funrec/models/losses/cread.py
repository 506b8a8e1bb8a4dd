"""Classification and restoration of watch time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import tensorflow as tf

from funrec.models.losses.base import Array, Loss, Prediction, mean_of
from funrec.models.losses.huber import huber
from funrec.utils.specs import NotNegative, PositiveNumber, whole


class CREAD(Loss):
    """Whether a watch time exceeds each of several thresholds, from which its expectation is restored.

        value = sum_m P(t > t_m) (t_m - t_{m-1}),     t_0 = 0
        loss = mean_m log loss_m + restore_weight huber(value - t)
               + order_weight sum_m max(P(t > t_{m+1}) - P(t > t_m), 0)

    Sun et al., AAAI 2024. The `M` thresholds are quantiles of training labels, at `(1 - exp(-a m / M)) / (1 - exp(-a))`
    for `a = adaptivity` (error-adaptive discretization): more of them lie among long watch times. The sum is one from
    below: with few thresholds it is too small, which the restoration's term, in units of the mean, makes up for.

    Args:
        thresholds: Number of thresholds, each an output.
        adaptivity: How far thresholds are drawn towards long watch times.
        restore_weight: Weight of the restored value's error.
        order_weight: Weight of chances that rise with the threshold.
    """

    paper = "Sun et al., AAAI 2024"
    kind = "duration"

    def __init__(
        self,
        thresholds: Annotated[int, whole(2)] = 20,
        adaptivity: PositiveNumber = 1.0,
        restore_weight: NotNegative = 1.0,
        order_weight: NotNegative = 0.1,
    ) -> None:
        self.outputs = thresholds
        self.adaptivity = adaptivity
        self.restore_weight = restore_weight
        self.order_weight = order_weight

    def initial_state(self) -> dict[str, Array]:
        return self.fit(np.linspace(0, 2, 1001, dtype=np.float32), None)

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        places = np.arange(1, self.outputs + 1) / self.outputs
        levels = np.expm1(-self.adaptivity * places) / np.expm1(-self.adaptivity)
        return {"thresholds": np.quantile(labels, levels).astype(np.float32), "mean": mean_of(labels)}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        above = np.array([np.count_nonzero(labels > bound) for bound in self.fit(labels, None)["thresholds"]]) + 0.5
        return list(np.log(above) - np.log(labels.size + 1 - above))

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        above = tf.cast(label > self.state["thresholds"][:, None], tf.float32)
        classification = tf.nn.sigmoid_cross_entropy_with_logits(labels=above, logits=prediction.outputs)
        error = (self.value(prediction) - label) / self.state["mean"]
        chances = tf.sigmoid(prediction.outputs)
        disorder = tf.reduce_sum(tf.nn.relu(chances[1:] - chances[:-1]), axis=0)
        restoration = self.restore_weight * huber(error, 1.0)
        return tf.reduce_mean(classification, axis=0) + restoration + self.order_weight * disorder

    def value(self, prediction: Prediction) -> tf.Tensor:
        thresholds = self.state["thresholds"]
        steps = thresholds - tf.concat([[0.0], thresholds[:-1]], axis=0)
        return tf.linalg.matvec(tf.sigmoid(prediction.outputs), steps, transpose_a=True)
