"""Weighted logistic regression of watch time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf

from funrec.models.losses.base import Array, Loss, Prediction, mean_of

#: The largest log odds that a value is computed from, so that it stays finite.
LARGEST_LOGIT = 60.0


class WeightedLogistic(Loss):
    """A logistic regression whose positives weigh their watch time, so that its odds are the expected watch time.

        -(t log p + w log(1 - p)),     value = p / (1 - p) = exp(logit)

    Covington et al., RecSys 2016, section 4.2: `w` is 1 where nothing was watched and 0 elsewhere. The odds are then
    `E[t] / P(t = 0)`: nearly the mean where few rows are watched, and too large where many are. With `negatives: all`
    `w` is 1 in every row, and the odds are `E[t]` exactly. Watch time is in units of its mean in training.

    Args:
        negatives: `all`, or the paper's `unwatched`.
    """

    paper = "Covington et al., RecSys 2016"
    kind = "duration"

    def __init__(self, negatives: Literal["all", "unwatched"] = "all") -> None:
        self.negatives = negatives

    def initial_state(self) -> dict[str, Array]:
        return {"mean": np.ones(1, np.float32)}

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        return {"mean": mean_of(labels)}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        return [0.0]

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        logit = prediction.outputs[0]
        negative = 1.0 if self.negatives == "all" else tf.cast(label <= 0, tf.float32)
        return label / self.state["mean"] * tf.nn.softplus(-logit) + negative * tf.nn.softplus(logit)

    def value(self, prediction: Prediction) -> tf.Tensor:
        return self.state["mean"] * tf.exp(tf.minimum(prediction.outputs[0], LARGEST_LOGIT))
