"""Mixtures: what gates make of experts."""

from __future__ import annotations

import tensorflow as tf
from keras import ops


def mix(gates: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
    """Return `sum_e gates[g, b, e] * experts[.., e, b, u]`, shape `(gates, batch, units)`.

    As products of matrices these would be one tiny product per row of the batch; a multiplication and a sum
    are up to four times as fast.

    Args:
        gates: `(gates, batch, experts)`.
        experts: `(experts, batch, units)`, read by all gates, or `(gates, experts, batch, units)`, one set each.
    """
    weights = ops.expand_dims(ops.transpose(gates, (0, 2, 1)), -1)  # (gates, experts, batch, 1)
    return ops.sum(weights * experts, axis=1)
