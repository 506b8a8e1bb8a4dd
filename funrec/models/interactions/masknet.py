"""MaskNet: hidden layers whose inputs are multiplied by a mask made from the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.layer_norm import LayerNorm
from funrec.models.layers.mlp import Towers, add_bank_kernel
from funrec.models.layers.randomness import dropout as drop_out
from funrec.utils.specs import PositiveInt, PositiveNumber, Rate


class MaskNet(Interaction):
    """Mask blocks, side by side or one after the other.

    With `e` the features' vectors side by side, `LN(e)` the same with every vector normalised, and `*` elementwise, a
    block is (Wang et al., 2021, eq. 4-11):

        mask(e) = V relu(U e + a) + b
        block(x) = relu(LN(W (mask(e) * x)))

    All blocks of the parallel structure read `LN(e)`; in the serial one, the first does, and every other reads the
    block before it. Masks are made from `e` in both. The paper's layers above the blocks are the backbone.

    Args:
        arrangement: `parallel` or `serial`.
        num_blocks: Number of blocks.
        units: Units of a block's output.
        reduction_ratio: How much wider the mask's hidden layer is than the mask.
        dropout: Dropout rate after every block.

    Output shape: `(batch, num_blocks * units)` if parallel, `(batch, units)` if serial.
    """

    paper = "Wang et al., 2021"
    reads = "fields"

    def __init__(
        self,
        arrangement: Literal["parallel", "serial"] = "parallel",
        num_blocks: PositiveInt = 2,
        units: PositiveInt = 64,
        reduction_ratio: PositiveNumber = 1.5,
        dropout: Rate = 0.0,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.arrangement = arrangement
        self.num_blocks = num_blocks
        self.units = units
        self.reduction_ratio = reduction_ratio
        self.dropout = dropout

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        copies, width, policy = self.structure.copies, self.num_fields * self.field_width, self.dtype_policy
        self.norm = LayerNorm((copies, 1, self.num_fields, self.field_width), name="norm", dtype=policy)
        self.norm.build()
        self.blocks = []
        for place in range(self.num_blocks):
            inputs = self.units if place and self.arrangement == "serial" else width
            hidden = max(1, round(self.reduction_ratio * inputs))
            block = MaskBlock(copies, hidden, self.units, name=f"block_{place}", dtype=policy)
            block.build((copies, None, width), (copies, None, inputs))
            self.blocks.append(block)

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        shape = (x.shape[0], -1, self.num_fields * self.field_width)
        embeddings, x = ops.reshape(x, shape), ops.reshape(self.norm(x), shape)
        outputs: list[tf.Tensor] = []
        for block in self.blocks:
            output = block(embeddings, outputs[-1] if outputs and self.arrangement == "serial" else x)
            outputs.append(drop_out(output, self.dropout) if training and self.dropout else output)
        return outputs[-1] if self.arrangement == "serial" else ops.concatenate(outputs, axis=-1)


class MaskBlock(keras.layers.Layer):
    """`relu(LN(W (mask(e) * x)))`, in `copies` independent blocks; `hidden` are the units of the mask's hidden layer.

    Input shape: `e`, `(copies, batch, width)`, and `x`, `(copies, batch, inputs)`.
    Output shape: `(copies, batch, units)`.
    """

    def __init__(self, copies: int, hidden: int, units: int, **layer: Any) -> None:
        super().__init__(**layer)
        self.copies = copies
        self.units = units
        self.hidden_units = hidden
        self.norm = LayerNorm((copies, 1, units), name="norm", dtype=self.dtype_policy)

    def build(self, embeddings_shape: Sequence[int | None], x_shape: Sequence[int | None]) -> None:
        inputs = int(x_shape[-1] or 0)
        self.mask = Towers(self.copies, (self.hidden_units,), outputs=inputs, dtype=self.dtype_policy, name="mask")
        self.mask.build(embeddings_shape)
        self.kernel = add_bank_kernel(self, self.copies, inputs, self.units, "kernel")
        self.norm.build()

    def call(self, embeddings: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return ops.relu(self.norm(ops.matmul(self.mask(embeddings) * x, self.kernel)))
