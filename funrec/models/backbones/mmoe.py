"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from funrec.models.backbones.base import Backbone, Gates
from funrec.models.checks import check_activation, check_flag, check_positive, check_rate, check_units
from funrec.models.layers.experts import GateBank, mix_experts
from funrec.models.layers.mlp import MLPBank


@keras.saving.register_keras_serializable(package="funrec")
class MMoE(Backbone):
    """Experts shared by all towers, mixed by one softmax gate per tower.

    `h_t = sum_e softmax(W_t x)_e * expert_e(x)`   (Ma et al., KDD 2018, eq. 5-7)

    Args:
        num_experts: Number of experts. The paper uses 8.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty is the paper's linear gate.
        activation: Activation of experts and gates.
        dropout: Dropout rate after every hidden layer of experts and gates.
        batch_normalization: Whether experts normalise before their activation.

    Input shape: `(batch, width)`.
    Output shape: `(towers, batch, expert_units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "Ma et al., KDD 2018"

    def __init__(
        self,
        num_experts: int = 8,
        expert_units: Sequence[int] = (32,),
        gate_units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.5,
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
        self.gates = GateBank(
            self.num_towers, self.num_experts, self.gate_units, self.activation, self.dropout, dtype=dtype
        )
        self.experts.build(input_shape)
        self.gates.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        experts = self.experts(x, training=training)  # (experts, batch, units)
        gates = self.gates(x, training=training)  # (towers, batch, experts)
        return experts, gates

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return mix_experts(private, shared)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        experts = tuple(f"expert_{place + 1}" for place in range(self.num_experts))
        return [Gates("", self.structure.towers, experts, self.gates(x))]
