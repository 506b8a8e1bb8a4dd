"""AutoInt: features that attend to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.mlp import add_bank_kernel
from funrec.models.structure import Structure
from funrec.utils.errors import InputError
from funrec.utils.specs import PositiveInt


class AutoInt(Interaction):
    """Multi-head self-attention between the features of a row.

    Every layer replaces the features' vectors `e_m`, with `a` a softmax over `k` (Song et al., CIKM 2019, eq. 5-8):

        a_mk^h = softmax_k((Q_h e_m) . (K_h e_k))
        e_m <- relu([sum_k a_mk^1 V_1 e_k, ..., sum_k a_mk^H V_H e_k] + R e_m)

    The paper does not scale the products, and neither does this. Its AutoInt+, a network beside the attention, and its
    dropout are not here; the backbone is above it.

    Args:
        num_layers: Number of attention layers; the highest order of a cross grows with each.
        num_heads: Attention heads; should divide `units`.
        units: Width of a feature's vector after every layer, over all heads; null for the embeddings' own.

    Output shape: `(batch, features * units)`.
    """

    paper = "Song et al., CIKM 2019"
    reads = "fields"

    def __init__(
        self, num_layers: PositiveInt = 1, num_heads: PositiveInt = 2, units: PositiveInt | None = None, **layer: Any
    ) -> None:
        super().__init__(**layer)
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.units = units

    def configure(self, structure: Structure) -> None:
        super().configure(structure)
        self.width = self.units or self.field_width
        if self.width % self.num_heads:
            what = "model.interaction.units" if self.units else "the features' embedding_dim"
            raise InputError(
                f"model.interaction.num_heads should divide {what}, {self.width}. Received: {self.num_heads}."
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.kernels = []
        for layer in range(self.num_layers):
            inputs = self.width if layer else self.field_width
            shape = (self.structure.copies, inputs, self.width)
            names = ("query", "key", "value", "residual")
            self.kernels.append({name: add_bank_kernel(self, *shape, f"{name}_{layer}") for name in names})

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        copies, fields, heads = x.shape[0], self.num_fields, self.num_heads
        x = ops.reshape(x, (copies, -1, x.shape[-1]))  # (copies, batch * fields, width)
        for kernels in self.kernels:
            query, key, value, kept = (ops.matmul(x, kernel) for kernel in kernels.values())
            by_head = (copies, -1, fields, heads, self.width // heads)
            query, key, value = (
                ops.transpose(ops.reshape(mapped, by_head), (0, 1, 3, 2, 4)) for mapped in (query, key, value)
            )
            attention = ops.softmax(tf.matmul(query, key, transpose_b=True))  # (copies, batch, heads, fields, fields)
            attended = ops.transpose(ops.matmul(attention, value), (0, 1, 3, 2, 4))
            x = ops.relu(ops.reshape(attended, (copies, -1, self.width)) + kept)
        return ops.reshape(x, (copies, -1, fields * self.width))
