"""Layer normalisation of every network of a bank by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops


class LayerNorm(keras.layers.Layer):
    """`gamma * (x - mean(x)) / sqrt(var(x) + epsilon) + beta` over the last axis (Ba et al., 2016).

    Args:
        shape: The shape of `gamma` and `beta`, which are broadcast to the input's: `(copies, 1, width)` for weights
            that all rows of a copy have in common, `(copies, 1, fields, width)` for weights of every field.

    Input and output shape: one that `shape` can be broadcast to.
    """

    epsilon = 1e-5

    def __init__(self, shape: Sequence[int], **layer: Any) -> None:
        super().__init__(**layer)
        self.shape = tuple(shape)

    def build(self, input_shape: Any = None) -> None:
        self.gamma = self.add_weight(shape=self.shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=self.shape, initializer="zeros", name="beta")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        values = ops.cast(x, "float32")
        centred = values - ops.mean(values, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        return ops.cast(centred * ops.rsqrt(variance + self.epsilon), x.dtype) * self.gamma + self.beta
