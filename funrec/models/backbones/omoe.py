"""One-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Gates
from funrec.models.backbones.mmoe import MMoE
from funrec.models.layers.experts import mix_experts


class OMoE(MMoE):
    """Experts mixed by one softmax gate, the same mixture for all towers.

    `h = sum_e softmax(W x)_e * expert_e(x)`   (Ma et al., KDD 2018, eq. 1-2: the baseline that MMoE departs from)
    """

    paper = "Jacobs et al., Neural Computation 1991; the baseline of Ma et al., KDD 2018"
    last_shared_layer = "experts"

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.experts = self.bank(self.num_experts, self.expert_units)
        self.gate = self.gate_bank(1, self.num_experts, self.gate_units)
        self.experts.build(input_shape)
        self.gate.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        experts = self.experts(x, training=training)  # (experts, batch, units)
        return mix_experts(self.gate(x, training=training), experts), None  # (1, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(shared, self.num_towers, axis=0)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        return [Gates("", ("shared",), self.expert_names, self.gate(x), self.num_experts)]
