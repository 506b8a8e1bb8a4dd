"""A small transformer over a user's events and the item at hand."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.layers.layer_norm import LayerNorm
from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.layers.pooling import Events, Pooling
from funrec.models.layers.randomness import uniform_initializer
from funrec.utils.specs import PositiveInt


@keras.saving.register_keras_serializable(package="funrec")
class EventTransformer(Pooling):
    """What the target's place holds after encoder blocks over the events and the target.

        S = LN(E + MultiHead(E)),   F = LN(S + W_2 leaky_relu(W_1 S + b_1) + b_2)

    (Chen et al., DLP-KDD 2019, eq. 2-5; without dropout.) The paper reads every place, this one the target's alone, so
    the last block is computed there alone and its cost grows with the number of events, not its square. The paper's
    positions, times since the event, are the `ago` of a history; places counted from the newest event are learnt
    besides.

    Args:
        num_blocks: Encoder blocks. From the second on, events attend to each other too.
        num_heads: Attention heads.
        units: Hidden units between `W_1` and `W_2`.
    """

    paper = "Chen et al., DLP-KDD 2019"
    reads_target = True

    def __init__(
        self, num_blocks: PositiveInt = 1, num_heads: PositiveInt = 2, units: PositiveInt = 32, **layer: Any
    ) -> None:
        super().__init__(**layer)
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.units = units

    def build(self, input_shape: Any = None) -> None:
        # Place 0 is the target's, 1 that of the newest event.
        self.positions = self.add_weight(
            shape=(self.most + 1, self.copies * self.width), initializer=uniform_initializer(0.05), name="positions"
        )
        self.blocks = []
        for number in range(self.num_blocks):
            block = EncoderBlock(
                self.copies, self.width, self.num_heads, self.units, name=f"block_{number}", dtype=self.dtype_policy
            )
            block.build()
            self.blocks.append(block)

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        x, present = self._lay_out(events, target)
        for number, block in enumerate(self.blocks):
            x = block(x, present, first_alone=number == self.num_blocks - 1)
        some = tf.cast(events.lengths > 0, x.dtype)
        return x[:, :, 0] * some[:, None]

    def _lay_out(self, events: Events, target: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the target and its events, newest first, `(copies, batch, places, width)`, and which are there."""
        places = tf.gather(events.lengths, events.owners) - events.places
        size = tf.reduce_max(tf.concat([places, [0]], axis=0)) + 1
        flat = tf.reshape(tf.transpose(events.rows, (1, 0, 2)), (-1, self.copies * self.width))
        where = tf.stack([events.owners, places], axis=1)
        padded = tf.scatter_nd(where, flat, (events.batch, size, self.copies * self.width))
        present = tf.range(size)[None] <= events.lengths[:, None]
        target = tf.pad(target, [[0, 0], [0, 0], [0, self.width - self.target_width]])
        first = tf.reshape(tf.transpose(target, (1, 0, 2)), (-1, 1, self.copies * self.width))
        x = tf.concat([first, padded[:, 1:]], axis=1) + tf.cast(self.positions[:size], flat.dtype)
        return tf.transpose(tf.reshape(x, (-1, size, self.copies, self.width)), (2, 0, 1, 3)), present


@keras.saving.register_keras_serializable(package="funrec")
class EncoderBlock(keras.layers.Layer):
    """Self-attention and a network at every place, each added to what it read and normalised.

    Args:
        copies: Number of independent blocks.
        width: Width of a place.
        num_heads: Attention heads.
        units: Hidden units of the network.
    """

    def __init__(self, copies: int, width: int, num_heads: int, units: int, **layer: Any) -> None:
        super().__init__(**layer)
        self.copies, self.width, self.num_heads = copies, width, num_heads
        self.head_width = -(-width // num_heads)
        policy = self.dtype_policy
        self.hidden = MLPBank(copies, (units,), "leaky_relu", name="hidden", dtype=policy)
        self.norms = [LayerNorm((copies, 1, 1, width), name=f"norm_{place}", dtype=policy) for place in range(2)]

    def build(self, input_shape: Any = None) -> None:
        inner = self.num_heads * self.head_width
        names = ("query", "key", "value")
        self.kernels = [add_bank_kernel(self, self.copies, self.width, inner, name) for name in names]
        self.output_kernel = add_bank_kernel(self, self.copies, inner, self.width, "output")
        self.hidden.build((self.copies, None, self.width))
        self.last_kernel = add_bank_kernel(self, self.copies, self.hidden.units[-1], self.width, "last_kernel")
        self.last_bias = self.add_weight(shape=(self.copies, 1, self.width), initializer="zeros", name="last_bias")
        for norm in self.norms:
            norm.build()

    def call(self, x: tf.Tensor, present: tf.Tensor, first_alone: bool = False) -> tf.Tensor:
        """Return `(copies, batch, places, width)`, or the first place of it alone; `present` is `(batch, places)`."""
        asking = x[:, :, :1] if first_alone else x
        query, key, value = (
            self._heads(part, kernel) for part, kernel in zip((asking, x, x), self.kernels, strict=True)
        )
        scores = tf.einsum("cbqhd,cbkhd->cbhqk", query, key) / self.head_width**0.5
        scores = tf.where(present[None, :, None, None, :], tf.cast(scores, tf.float32), -1e9)
        weights = tf.cast(tf.nn.softmax(scores), value.dtype)
        mixed = tf.einsum("cbhqk,cbkhd->cbqhd", weights, value)
        asking = self.norms[0](asking + self._at_places(mixed, self.output_kernel))
        flat = tf.reshape(asking, (self.copies, -1, self.width))
        further = ops.matmul(self.hidden(flat), self.last_kernel) + self.last_bias
        return self.norms[1](asking + tf.reshape(further, tf.shape(asking)))

    def _heads(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        places = tf.shape(x)[2]
        flat = ops.matmul(tf.reshape(x, (self.copies, -1, self.width)), kernel)
        return tf.reshape(flat, (self.copies, -1, places, self.num_heads, self.head_width))

    def _at_places(self, mixed: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        places = tf.shape(mixed)[2]
        flat = tf.reshape(mixed, (self.copies, -1, self.num_heads * self.head_width))
        return tf.reshape(ops.matmul(flat, kernel), (self.copies, -1, places, self.width))
