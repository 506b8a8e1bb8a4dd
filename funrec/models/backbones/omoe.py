"""One-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Backbone, Gates
from funrec.models.checks import check_activation, check_flag, check_positive, check_rate, check_units
from funrec.models.layers.experts import GateBank, mix_experts
from funrec.models.layers.mlp import MLPBank


@keras.saving.register_keras_serializable(package="funrec")
class OMoE(Backbone):
    """Experts mixed by one softmax gate, the same mixture for all towers.

    `h = sum_e softmax(W x)_e * expert_e(x)`   (Ma et al., KDD 2018, eq. 1-2: the baseline that MMoE departs from)

    Args:
        num_experts: Number of experts. The paper uses 8.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before the gate's softmax; empty is the paper's linear gate.
        activation: Activation of experts and gate.
        dropout: Dropout rate after every hidden layer of experts and gate.
        batch_normalization: Whether experts normalise before their activation.

    Input shape: `(batch, width)`.
    Output shape: `(towers, batch, expert_units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "Jacobs et al., Neural Computation 1991; the baseline of Ma et al., KDD 2018"
    last_shared_layer = "experts"

    def __init__(
        self,
        num_experts: int = 4,
        expert_units: Sequence[int] = (128, 64),
        gate_units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.1,
        batch_normalization: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.num_experts = check_positive("model.backbone.num_experts", num_experts)
        self.expert_units = check_units("model.backbone.expert_units", expert_units)
        self.gate_units = check_units("model.backbone.gate_units", gate_units, allow_empty=True)
        self.activation = check_activation("model.backbone.activation", activation)
        self.dropout = check_rate("model.backbone.dropout", dropout)
        self.batch_normalization = check_flag("model.backbone.batch_normalization", batch_normalization)

    def build(self, input_shape: Sequence[int | None]) -> None:
        dtype = self.dtype_policy
        self.experts = MLPBank(
            self.num_experts, self.expert_units, self.activation, self.dropout, self.batch_normalization, dtype=dtype
        )
        self.gate = GateBank(1, self.num_experts, self.gate_units, self.activation, self.dropout, dtype=dtype)
        self.experts.build(input_shape)
        self.gate.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        experts = self.experts(x, training=training)  # (experts, batch, units)
        return mix_experts(self.gate(x, training=training), experts), None  # (1, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(shared, self.num_towers, axis=0)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        experts = tuple(f"expert_{place + 1}" for place in range(self.num_experts))
        return [Gates("", ("shared",), experts, self.gate(x))]
