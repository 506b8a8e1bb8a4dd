"""FinalMLP: two networks that read the row through gates of their own, and the products of what they make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.structure import Structure
from funrec.utils.errors import InputError
from funrec.utils.specs import Names, OptionalUnits, PositiveInt, Rate, Units


class FinalMLP(Interaction):
    """Two streams, feature gates, and a bilinear fusion with several heads.

    With `e` the embeddings and numbers side by side and `*` elementwise, stream `s` of 2 is (Mao et al., AAAI 2023,
    eq. 2-6):

        o_s = MLP_s(2 sigmoid(gate_s(x_s)) * e)

    where `x_s` are the embeddings of the features that gate `s` reads. The paper's logit is a sum over heads `h`, each
    of which has a part of both outputs (eq. 7-10):

        b + w_1 o_1 + w_2 o_2 + sum_h o_1h^T W_h o_2h

    Its terms `o_1`, `o_2` and `o_1h * (W_h o_2h)` are returned; the sum is left to the backbone, so that every task can
    weigh them. A gate that reads no feature is a vector of weights: the paper's network of a learnable vector is one
    too.

    Args:
        first_units: Hidden units of the first stream.
        second_units: Hidden units of the second stream.
        num_heads: Heads of the fusion; should divide the last units of both.
        first_gate: Names of the features that the first stream's gate reads, such as the user's.
        second_gate: Likewise, for the second stream, such as the item's.
        gate_units: Hidden units of a gate that reads features.
        dropout: Dropout rate after every layer of the streams.

    Output shape: `(batch, 2 * first_units[-1] + second_units[-1])`.

    Raises:
        InputError: If the heads do not divide the units.
    """

    paper = "Mao et al., AAAI 2023"

    def __init__(
        self,
        first_units: Units = (64,),
        second_units: Units = (64,),
        num_heads: PositiveInt = 8,
        first_gate: Names = (),
        second_gate: Names = (),
        gate_units: OptionalUnits = (32,),
        dropout: Rate = 0.0,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.units = (tuple(first_units), tuple(second_units))
        for key, units in zip(("first_units", "second_units"), self.units, strict=True):
            if units[-1] % num_heads:
                raise InputError(
                    f"model.interaction.num_heads should divide the last of model.interaction.{key}, {units[-1]}. "
                    f"Received: {num_heads}."
                )
        self.num_heads = num_heads
        self.gate_features = (tuple(first_gate), tuple(second_gate))
        self.gate_units = tuple(gate_units)
        self.dropout = dropout

    def configure(self, structure: Structure) -> None:
        super().configure(structure)
        keys = zip(("first_gate", "second_gate"), self.gate_features, strict=True)
        self.columns = [sorted(structure.spans(f"model.interaction.{key}", features)) for key, features in keys]

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        copies, width, policy = self.structure.copies, int(input_shape[-1] or 0), self.dtype_policy
        self.gates, self.streams = [], []
        for place, (columns, units) in enumerate(zip(self.columns, self.units, strict=True)):
            gate = FeatureGate(copies, columns, self.gate_units, name=f"gate_{place}", dtype=policy)
            gate.build((copies, None, width))
            self.gates.append(gate)
            stream = MLPBank(copies, units, dropout=self.dropout, name=f"stream_{place}", dtype=policy)
            stream.build((copies, None, width))
            self.streams.append(stream)
        first, second = (units[-1] // self.num_heads for units in self.units)
        self.fusion = add_bank_kernel(self, copies * self.num_heads, second, first, "fusion")

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        first, second = (
            stream(2 * ops.sigmoid(gate(x)) * x, training=training)
            for gate, stream in zip(self.gates, self.streams, strict=True)
        )
        return ops.concatenate([first, second, first * self._map_heads(second)], axis=-1)

    def _map_heads(self, x: tf.Tensor) -> tf.Tensor:
        """Multiply every head's part of `(copies, batch, units)` by its matrix."""
        copies, heads, outputs = x.shape[0], self.num_heads, self.fusion.shape[-1]
        parts = ops.transpose(ops.reshape(x, (copies, -1, heads, x.shape[-1] // heads)), (0, 2, 1, 3))
        mapped = ops.matmul(parts, ops.reshape(self.fusion, (copies, heads, *self.fusion.shape[1:])))
        return ops.reshape(ops.transpose(mapped, (0, 2, 1, 3)), (copies, -1, heads * outputs))


class FeatureGate(keras.layers.Layer):
    """A number per column of a row, before the sigmoid, in `copies` independent gates.

    It reads `columns` of a row, starts and ends; without any, the gate is the same for all rows.

    Input shape: `(copies, batch, width)`.
    Output shape: the same, or `(copies, 1, width)` where it reads nothing.
    """

    def __init__(self, copies: int, columns: Sequence[tuple[int, int]], units: Sequence[int], **layer: Any) -> None:
        super().__init__(**layer)
        self.copies = copies
        self.columns = [tuple(pair) for pair in columns]
        self.hidden = MLPBank(copies, units, dtype=self.dtype_policy, name="hidden") if columns else None

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = int(input_shape[-1] or 0)
        if self.hidden is not None:
            inputs = sum(end - start for start, end in self.columns)
            self.hidden.build((self.copies, None, inputs))
            self.kernel = add_bank_kernel(self, self.copies, (inputs, *self.hidden.units)[-1], width, "kernel")
        self.bias = self.add_weight(shape=(self.copies, 1, width), initializer="zeros", name="bias")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if self.hidden is None:
            return self.bias
        read = ops.concatenate([x[..., start:end] for start, end in self.columns], axis=-1)
        return ops.matmul(self.hidden(read), self.kernel) + self.bias
