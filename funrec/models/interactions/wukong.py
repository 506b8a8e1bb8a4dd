"""Wukong: stacked factorisation machines, whose order of crosses doubles with every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.layer_norm import LayerNorm
from funrec.models.layers.mlp import Towers, add_bank_kernel
from funrec.utils.specs import OptionalUnits, PositiveInt


class Wukong(Interaction):
    """Layers of a factorisation machine block beside a linear compression block.

    With `X` a row's vectors, one per line (Zhang et al., ICML 2024, section 3):

        FM(X)  = X X^T Y                             products of all pairs, compressed to `rank` each
        FMB(X) = reshape(MLP(LN(flatten(FM(X)))))    `num_crossed` vectors
        LCB(X) = L X                                 `num_linear` vectors
        X     <- LN([FMB(X), LCB(X)] + X)            with `R X` for the last `X` where their numbers differ

    Plain numbers have a linear map where the paper has a network. `Y` is a weight; the paper's variant that computes it
    from the row is not here. The paper's network on top is the backbone.

    Args:
        num_layers: Number of layers; the highest order of a cross is two to the power of it.
        num_crossed: Vectors that the factorisation machine block of a layer makes.
        num_linear: Vectors that its linear compression block makes.
        rank: Columns of `Y`.
        units: Hidden units of the block's network.

    Output shape: `(batch, (num_crossed + num_linear) * embedding_dim)`.
    """

    paper = "Zhang et al., ICML 2024"
    reads = "fields"

    def __init__(
        self,
        num_layers: PositiveInt = 2,
        num_crossed: PositiveInt = 8,
        num_linear: PositiveInt = 8,
        rank: PositiveInt = 8,
        units: OptionalUnits = (64,),
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.num_layers = num_layers
        self.num_crossed = num_crossed
        self.num_linear = num_linear
        self.rank = rank
        self.units = tuple(units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.layers, vectors = [], self.num_fields
        for place in range(self.num_layers):
            sizes = (self.num_crossed, self.num_linear, self.rank, self.units)
            layer = WukongLayer(self.structure.copies, *sizes, name=f"layer_{place}", dtype=self.dtype_policy)
            layer.build((self.structure.copies, None, vectors, self.field_width))
            self.layers.append(layer)
            vectors = self.num_crossed + self.num_linear

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        for layer in self.layers:
            x = layer(x)
        return ops.reshape(x, (x.shape[0], -1, x.shape[2] * x.shape[3]))


class WukongLayer(keras.layers.Layer):
    """One layer; `copies` of them are independent, and the other sizes are those of `Wukong`.

    Input shape: `(copies, batch, vectors, width)`.
    Output shape: `(copies, batch, num_crossed + num_linear, width)`.
    """

    def __init__(
        self, copies: int, num_crossed: int, num_linear: int, rank: int, units: Sequence[int], **layer: Any
    ) -> None:
        super().__init__(**layer)
        self.copies = copies
        self.num_crossed = num_crossed
        self.num_linear = num_linear
        self.rank = rank
        self.units = units

    def build(self, input_shape: Sequence[int | None]) -> None:
        vectors, width = int(input_shape[2] or 0), int(input_shape[3] or 0)
        copies, crossed, made = self.copies, self.num_crossed, self.num_crossed + self.num_linear
        self.pairs_norm = LayerNorm((copies, 1, vectors * self.rank), name="pairs_norm", dtype=self.dtype_policy)
        self.norm = LayerNorm((copies, 1, 1, width), name="norm", dtype=self.dtype_policy)
        self.pairs_norm.build()
        self.norm.build()
        self.mlp = Towers(copies, self.units, outputs=crossed * width, dtype=self.dtype_policy, name="mlp")
        self.mlp.build((copies, None, vectors * self.rank))
        self.compression = add_bank_kernel(self, copies, vectors, self.rank, "compression")
        self.linear = add_bank_kernel(self, copies, vectors, self.num_linear, "linear")
        self.residual = add_bank_kernel(self, copies, vectors, made, "residual") if vectors != made else None

    def call(self, x: tf.Tensor) -> tf.Tensor:
        copies, vectors, width = x.shape[0], x.shape[2], x.shape[3]
        # All maps of the vectors at once: their columns are those of `rank`, `num_linear` and the residual.
        maps = [self.compression, self.linear, *([] if self.residual is None else [self.residual])]
        by_width = ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (copies, -1, vectors))
        mapped = ops.reshape(
            ops.matmul(by_width, ops.concatenate(maps, axis=-1)), (copies, -1, width, sum(m.shape[-1] for m in maps))
        )
        pairs = ops.matmul(x, mapped[..., : self.rank])  # (copies, batch, vectors, rank)
        pairs = self.pairs_norm(ops.reshape(pairs, (copies, -1, vectors * self.rank)))
        crossed = ops.reshape(self.mlp(pairs), (copies, -1, self.num_crossed, width))
        mapped = ops.transpose(mapped[..., self.rank :], (0, 1, 3, 2))
        linear, residual = mapped[:, :, : self.num_linear], mapped[:, :, self.num_linear :]
        made = ops.concatenate([crossed, linear], axis=2)
        return self.norm(made + (x if self.residual is None else residual))
