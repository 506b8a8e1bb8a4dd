"""Zero-inflated lognormal loss."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from funrec.models.losses.base import Array, Loss, Prediction

#: The least standard deviation of the logarithm, and the largest logarithm of a predicted value.
LEAST_SIGMA, LARGEST_LOG = 1e-3, 80.0


class ZILN(Loss):
    """Nothing with probability `1 - p`, else lognormal: the negative log likelihood of a value that is often 0.

        y = 0: -log(1 - p)      y > 0: -log p + log(y sigma sqrt(2 pi)) + (log y - mu)^2 / (2 sigma^2)

    Wang, Liu & Miao, 2019 (arXiv:1912.07753). Three outputs: the logit of `p`, `mu`, and `sigma` through a
    softplus. The prediction is the mean, `p exp(mu + sigma^2 / 2)`. The term `log y`, which no prediction changes, is
    left out, so that the label's unit does not change the loss. Labels below 0 count as 0.
    """

    paper = "Wang et al., arXiv:1912.07753, 2019"
    kind = "regression"
    outputs = 3

    def initial_state(self) -> dict[str, Array]:
        return {"log_center": np.zeros(1, np.float32)}

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        logs = np.log(labels[labels > 0].astype(np.float64))
        return {"log_center": np.array([logs.mean() if logs.size else 0.0], np.float32)}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        positive = labels[labels > 0].astype(np.float64)
        rate = min(max(positive.size / labels.size, 1e-6), 1 - 1e-6)
        sigma = max(float(np.log(positive).std()), 0.1) if positive.size else 1.0
        return [math.log(rate / (1 - rate)), 0.0, math.log(math.expm1(sigma))]

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        logit, mu, sigma = self._parameters(prediction)
        is_positive = label > 0
        log_label = tf.math.log(tf.where(is_positive, label, 1.0)) - self.state["log_center"]
        standard = (log_label - mu) / sigma
        density = tf.math.log(sigma) + 0.5 * (math.log(2.0 * math.pi) + tf.square(standard))
        return tf.where(is_positive, tf.nn.softplus(-logit) + density, tf.nn.softplus(logit))

    def value(self, prediction: Prediction) -> tf.Tensor:
        logit, mu, sigma = self._parameters(prediction)
        log_mean = tf.math.log_sigmoid(logit) + self.state["log_center"] + mu + 0.5 * tf.square(sigma)
        return tf.exp(tf.minimum(log_mean, LARGEST_LOG))

    def _parameters(self, prediction: Prediction) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logit, mu, sigma = tf.unstack(prediction.outputs)
        return logit, mu, tf.nn.softplus(sigma) + LEAST_SIGMA
