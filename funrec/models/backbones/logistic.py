"""Logistic regression: one weight per id and task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from funrec.models.backbones.base import Backbone
from funrec.utils.specs import NotNegative, PositiveNumber


class Logistic(Backbone):
    """A logit per task that is the sum of its features' weights, `z_t = b_t + s * sum_f w_t[x_f]`.

    The baseline that deep models have to beat. Every id has one weight per tower, an embedding of width
    one that starts at zero, and every number a coefficient.

    Args:
        scale: The factor `s`. Adam's steps do not depend on a gradient's size, so that a factor of 10 makes
            the step of every effective weight `s * w` ten times the learning rate.
        l2: Ridge penalty on the effective weights of ids; scikit-learn's `C` is 1 / (2 l2).

    Input shape: `(towers, batch, width)`.
    Output shape: `(towers, batch, 1)`, the logits themselves: no tower stands on it.
    """

    paper = "logistic regression on one-hot ids"
    has_towers = False
    embedding_limit = 0.0

    def __init__(self, scale: PositiveNumber = 30.0, l2: NotNegative = 1.67, **layer: Any) -> None:
        super().__init__(**layer)
        self.scale = scale
        self.l2 = l2

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.num_towers, 1

    def effective(self, embeddings: tf.Tensor) -> tf.Tensor:
        return embeddings * self.scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.bias = self.add_weight(shape=(self.num_towers, 1, 1), initializer="zeros", name="bias")
        self.coefficients = self.add_weight(
            shape=(self.num_towers, self.structure.num_numeric, 1), initializer="zeros", name="coefficients"
        )

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[None, tf.Tensor]:
        return None, x if len(x.shape) == 3 else x[None]

    def specialise(self, shared: tf.Tensor | None, private: tf.Tensor, training: bool = False) -> tf.Tensor:
        ids = private.shape[-1] - self.structure.num_numeric
        logits = tf.reduce_sum(private[..., :ids], axis=-1, keepdims=True)
        logits += tf.matmul(private[..., ids:], tf.convert_to_tensor(self.coefficients))
        return logits * self.scale + self.bias
