"""Banks of equal networks, computed as batched matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.randomness import dropout, relu_dropout, uniform_initializer
from funrec.utils.memory import check_weight_fits


class MLPBank(keras.layers.Layer):
    """`count` multilayer perceptrons of one shape, side by side: experts, gates or towers.

    Every layer is `dropout(activation(normalise(x W + b)))`; without `units` the bank passes its input on.

    Args:
        count: Number of networks.
        units: Units of every layer, input side first.
        activation: Name of a Keras activation.
        dropout: Dropout rate after every layer.
        batch_normalization: Whether to normalise before the activation.

    Input shape: `(batch, inputs)`, read by all, or `(count, batch, inputs)`, one each.
    Output shape: `(count, batch, units[-1])`.
    """

    def __init__(
        self,
        count: int,
        units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_normalization: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.count = count
        self.units = tuple(units)
        self.activation_name = activation
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.batch_normalization = batch_normalization

    def build(self, input_shape: Sequence[int | None]) -> None:
        inputs = input_shape[-1]
        self.kernels, self.biases, self.normalizations = [], [], []
        for depth, outputs in enumerate(self.units):
            self.kernels.append(add_bank_kernel(self, self.count, inputs, outputs, f"kernel_{depth}"))
            if self.batch_normalization:
                normalization = BankNormalization(name=f"normalization_{depth}", dtype=self.dtype)
                normalization.build((self.count, None, outputs))
                self.normalizations.append(normalization)
            else:
                self.biases.append(
                    self.add_weight(shape=(self.count, 1, outputs), initializer="zeros", name=f"bias_{depth}")
                )
            inputs = outputs

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        if len(x.shape) == 2:
            x = ops.expand_dims(x, 0)
        if not self.units:
            return ops.repeat(x, self.count, axis=0) if x.shape[0] == 1 and self.count > 1 else x
        for depth, kernel in enumerate(self.kernels):
            x = ops.matmul(x, kernel)  # (count, batch, units)
            if self.batch_normalization:
                x = ops.cast(self.normalizations[depth](x, training=training), self.compute_dtype)
            else:
                x = x + self.biases[depth]
            if training and self.dropout and self.activation_name == "relu":
                x = relu_dropout(x, self.dropout)
            else:
                x = self.activation(x)
                if training and self.dropout:
                    x = dropout(x, self.dropout)
        return x


class BankNormalization(keras.layers.Layer):
    """Batch normalisation of every network of a bank by itself (Ioffe & Szegedy, ICML 2015).

    Input and output shape: `(count, batch, units)`.
    """

    momentum, epsilon = 0.99, 1e-3
    takes_whole_batches = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = (input_shape[0], 1, input_shape[-1])
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        self.mean = self.add_weight(shape=shape, initializer="zeros", name="mean", trainable=False)
        self.variance = self.add_weight(shape=shape, initializer="ones", name="variance", trainable=False)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = ops.moments(x, axes=1, keepdims=True)
            for average, value in ((self.mean, mean), (self.variance, variance)):
                average.assign(average * self.momentum + ops.cast(value, average.dtype) * (1 - self.momentum))
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return x * scale + (self.beta - mean * scale)


def add_bank_kernel(
    layer: keras.layers.Layer, count: int, inputs: int | None, outputs: int, name: str
) -> keras.Variable:
    """Add a `(count, inputs, outputs)` weight in which every matrix starts as a Glorot-uniform one of its own."""
    if inputs is None:
        raise ValueError(f"{layer.name}: the width of the input should be known when the layer is built.")
    check_weight_fits(layer.name, (count, inputs, outputs))
    limit = (6.0 / (inputs + outputs)) ** 0.5  # Keras would count the bank's axis into the fan
    return layer.add_weight(shape=(count, inputs, outputs), initializer=uniform_initializer(limit), name=name)


class Towers(keras.layers.Layer):
    """One network per tower, ending in linear units: block-diagonal, no tower reads another's representation.

    Input shape: `(towers, batch, units)`, or `(batch, units)`, read by all.
    Output shape: `(towers, batch, outputs)`, the logits; several outputs are for losses that ask for them.
    """

    def __init__(
        self,
        count: int,
        units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_normalization: bool = False,
        outputs: int = 1,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.outputs = outputs
        self.hidden = MLPBank(count, units, activation, dropout, batch_normalization, dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.hidden.build(input_shape)
        inputs = self.hidden.units[-1] if self.hidden.units else input_shape[-1]
        self.kernel = add_bank_kernel(self, self.hidden.count, inputs, self.outputs, "kernel")
        self.bias = self.add_weight(shape=(self.hidden.count, 1, self.outputs), initializer="zeros", name="bias")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return ops.matmul(self.hidden(x, training=training), self.kernel) + self.bias
