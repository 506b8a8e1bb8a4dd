"""Gates: how much of which expert a tower gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.layers.randomness import dropout as drop_out

_replace: ContextVar[Callable[[tf.Tensor], tf.Tensor] | None] = ContextVar("gates_replaced", default=None)


@contextmanager
def gates_replaced(replace: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """Put what `replace` makes of them in place of gates' weights, `(count, batch, experts)`, in the order of calls."""
    token = _replace.set(replace)
    try:
        yield
    finally:
        _replace.reset(token)


def as_gates(weights: tf.Tensor) -> tf.Tensor:
    """Return gates' weights, or what stands in for them; every gate passes its weights through here."""
    replace = _replace.get()
    return weights if replace is None else replace(weights)


class GateBank(keras.layers.Layer):
    """`count` softmax gates over `num_experts` experts: `softmax(W g(x))`.

    Args:
        count: Number of gates, one per tower (or per stream).
        num_experts: Number of experts every gate chooses among.
        units: Hidden units of `g`; empty is the papers' linear gate.
        activation: Activation of the hidden units.
        dropout: Dropout rate after every hidden layer.
        expert_dropout: How often a gate loses an expert in training.

    Input shape: `(batch, inputs)` or `(count, batch, inputs)`.
    Output shape: `(count, batch, num_experts)`, sums to 1 over the last axis.
    """

    def __init__(
        self,
        count: int,
        num_experts: int,
        units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        expert_dropout: float = 0.0,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.count = count
        self.num_experts = num_experts
        self.expert_dropout = expert_dropout
        self.hidden = MLPBank(count, units, activation, dropout, dtype=self.dtype_policy, name="hidden")

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.hidden.build(input_shape)
        inputs = self.hidden.units[-1] if self.hidden.units else input_shape[-1]
        self.kernel = add_bank_kernel(self, self.count, inputs, self.num_experts, "kernel")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        if self.hidden.units:
            x = self.hidden(x, training=training)
        elif len(x.shape) == 2:
            x = ops.expand_dims(x, 0)
        weights = tf.nn.softmax(ops.matmul(x, self.kernel))
        if training and self.expert_dropout:
            weights = drop_experts(weights, self.expert_dropout)
        return as_gates(weights)


def drop_experts(weights: tf.Tensor, rate: float) -> tf.Tensor:
    """Zero weights `(gates, batch, experts)` with probability `rate` and scale the others so that they sum to 1.

    A row that would lose all its experts keeps them.
    """
    kept = drop_out(weights, rate)
    total = tf.reduce_sum(kept, axis=-1, keepdims=True)
    return tf.where(total > 0, tf.math.divide_no_nan(kept, total), weights)


def mix_experts(gates: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
    """Return `h_t = sum_e gates[t, :, e] * experts[e]`, `(gates, batch, units)`.

    One product of two small matrices per row, at half the cost of the equivalent einsum. Shapes are
    `(gates, batch, experts)` and `(experts, batch, units)`.
    """
    by_row = tf.matmul(tf.transpose(gates, (1, 0, 2)), tf.transpose(experts, (1, 0, 2)))
    return tf.transpose(by_row, (1, 0, 2))


def mix_own_experts(gates: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
    """Return `h_t = sum_e gates[t, :, e] * experts[t, e]`, `(gates, batch, units)`: every gate has experts of its own.

    Products of matrices would be one tiny product per gate and row; this is four times as fast as their einsum.
    Shapes are `(gates, batch, experts)` and `(gates, experts, batch, units)`.
    """
    return tf.reduce_sum(tf.transpose(gates, (0, 2, 1))[..., None] * experts, axis=1)
