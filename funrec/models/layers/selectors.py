"""Sparse gates: selectors that choose one expert each, differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.layers.randomness import uniform_initializer


class Selection(NamedTuple):
    """What a bank of sparse gates makes of a batch.

    Attributes:
        weights: `(gates, batch, experts)`, sums to 1 over the last axis.
        choices: The selectors' own weights, `(gates, batch, selectors, experts)`, likewise.
    """

    weights: tf.Tensor
    choices: tf.Tensor


class SelectorBank(keras.layers.Layer):
    """`count` gates, each a mixture of `selectors` smooth one-hot choices among `2 ** bits` experts.

    A selector gives every bit of an expert's number a smooth step; the expert's weight is the product of the bits':

        q(x) = sum_i softmax(W x)_i r(G_i x),   r(z)_e = prod_{j in e} S(z_j) prod_{j not in e} (1 - S(z_j))

    (Hazimeh et al., NeurIPS 2021, eq. 3-6, without the penalty for numbers of experts that are no power of two.)

    Args:
        count: Number of gates.
        bits: Binary logarithm of the number of experts.
        selectors: Choices that a gate mixes, the most experts that it takes once all steps are at 0 or 1.
        per_row: Whether choices depend on the row; if not, `G` and `W` are constants per gate.
        smoothness: Width of the part of `S` between 0 and 1.
        units: Hidden units before the choice, which have the activation and the dropout.

    Input shape: `(batch, inputs)`.
    """

    def __init__(
        self,
        count: int,
        bits: int,
        selectors: int,
        per_row: bool = True,
        smoothness: float = 1.0,
        units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.count, self.bits, self.selectors = count, bits, selectors
        self.per_row = per_row
        self.smoothness = smoothness
        self.hidden = MLPBank(count, units if per_row else (), activation, dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        inputs: int | None = 1
        if self.per_row:
            self.hidden.build(input_shape)
            inputs = self.hidden.units[-1] if self.hidden.units else input_shape[-1]
        # Small, so that every step starts between 0 and 1, where its gradient is not zero.
        self.choice = self.add_weight(
            shape=(self.count, inputs, self.selectors * self.bits),
            initializer=uniform_initializer(self.smoothness / 100),
            name="choice",
        )
        self.mixture = add_bank_kernel(self, self.count, inputs, self.selectors, "mixture")

    def call(self, x: tf.Tensor, training: bool = False) -> Selection:
        x = self.hidden(x, training=training) if self.per_row else ops.ones_like(x[..., :1])
        if len(x.shape) == 2:
            x = x[None]
        rows = (self.count, -1, self.selectors)
        bits = smooth_step(ops.reshape(ops.matmul(x, self.choice), (*rows, self.bits)), self.smoothness)
        choices = ops.ones_like(bits[..., :1])
        for place in range(self.bits):
            bit = bits[..., place : place + 1]
            choices = ops.concatenate([choices * (1 - bit), choices * bit], axis=-1)
        shares = tf.nn.softmax(ops.matmul(x, self.mixture))  # (gates, batch, selectors)
        return Selection(ops.sum(shares[..., None] * choices, axis=2), choices)


def smooth_step(x: tf.Tensor, width: float) -> tf.Tensor:
    """Return 0 below `-width / 2`, 1 above `width / 2`, and between them the cubic that joins the two smoothly."""
    x = ops.clip(x / width, -0.5, 0.5)
    # Rounding may leave [0, 1] by a hair, where the logarithm of a weight is no number.
    return ops.clip(0.5 + 1.5 * x - 2 * x * x * x, 0.0, 1.0)
