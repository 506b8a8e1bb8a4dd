"""Attention of the item at hand to what a user did before."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.layers.pooling import BLOCK, Events, Pooling
from funrec.utils.specs import Activation, Units


@keras.saving.register_keras_serializable(package="funrec")
class TargetAttention(Pooling):
    """A sum of the events, each weighted by what a small network says of it and the target.

        v = sum_j a(e_j, t) e_j,   a(e, t) = w activation(W [e, t, e * t] + b) + c

    (Zhou et al., KDD 2018, eq. 3 and fig. 2.) As in the paper, weights do not sum to 1, so that many events of the
    target's kind say more than one.

    Args:
        units: Hidden units of the network, input side first.
        activation: Its activation.
    """

    paper = "Zhou et al., KDD 2018"
    reads_target = True

    def __init__(self, units: Units = (32,), activation: Activation = "relu", **layer: Any) -> None:
        super().__init__(**layer)
        self.units = units
        self.activation = activation

    def build(self, input_shape: Any = None) -> None:
        self.hidden = MLPBank(self.copies, self.units, self.activation, dtype=self.dtype_policy, name="hidden")
        self.hidden.build((self.copies, None, self.width + 2 * self.target_width))
        self.kernel = add_bank_kernel(self, self.copies, self.units[-1], 1, "kernel")
        self.bias = self.add_weight(shape=(self.copies, 1, 1), initializer="zeros", name="bias")

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        weights = self.attend(events, target)
        return tf.stack([events.sum(rows) for rows in tf.unstack(weights * events.rows)])

    def attend(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        """Return the events' weights, `(copies, events, 1)`."""
        count = tf.shape(events.owners)[0]
        missing = (BLOCK - count % BLOCK) % BLOCK  # of numbers of one sign, on which ONNX agrees
        rows = tf.pad(events.rows, [[0, 0], [0, missing], [0, 0]])
        of_owner = tf.gather(target, tf.pad(events.owners, [[0, missing]]), axis=1)
        pairs = ops.concatenate([rows, of_owner, rows[..., : self.target_width] * of_owner], axis=-1)
        return (ops.matmul(self.hidden(pairs), self.kernel) + self.bias)[:, :count]
