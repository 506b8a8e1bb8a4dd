"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from funrec.models.backbones.base import Experts, Gates, MixtureBackbone, numbered
from funrec.models.layers.experts import mix_experts
from funrec.utils.specs import Inherited, OptionalUnits, PositiveInt, Units


class MMoE(MixtureBackbone):
    """Experts shared by all towers, mixed by one softmax gate per tower.

    `h_t = sum_e softmax(W_t x)_e * expert_e(x)`   (Ma et al., KDD 2018, eq. 5-7)

    Args:
        num_experts: Number of experts. The paper uses 8.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty is the paper's linear gate.
    """

    paper = "Ma et al., KDD 2018"

    def __init__(
        self,
        num_experts: PositiveInt = 8,
        expert_units: Units = (64,),
        gate_units: OptionalUnits = (),
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.num_experts = num_experts
        self.expert_units = expert_units
        self.gate_units = gate_units

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.experts = self.bank(self.num_experts, self.expert_units)
        self.gates = self.gate_bank(self.num_towers, self.num_experts, self.gate_units)
        self.experts.build(input_shape)
        self.gates.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        experts = self.experts(x, training=training)  # (experts, batch, units)
        gates = self.gates(x, training=training)  # (towers, batch, experts)
        return experts, gates

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return mix_experts(private, shared)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        return [Gates("", self.structure.towers, self.expert_names, self.gates(x), self.num_experts)]

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        return [Experts("", self.expert_names, self.experts(x))]

    @property
    def expert_names(self) -> tuple[str, ...]:
        """What the look inside calls the experts."""
        return numbered("expert", self.num_experts)
