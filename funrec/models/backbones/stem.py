"""STEM: shared and task-specific embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Backbone, Gates
from funrec.models.checks import check_activation, check_flag, check_positive, check_rate, check_units
from funrec.models.layers.experts import GateBank, mix_experts, mix_own_experts
from funrec.models.layers.mlp import MLPBank


@keras.saving.register_keras_serializable(package="funrec")
class STEM(Backbone):
    """Every tower has embeddings and experts of its own beside shared ones; it reads all, and trains these two.

    With `x_k` tower `k`'s embedding of a row, `x_s` the shared one, and `sg` a stop of the gradient:

        h_k = sum_e softmax(W_k (x_k + x_s))_e * [E_k(x_k), sg(E_j(x_j)) for j != k, E_s(x_s)]_e

    "All forward, task-specific backward" (Su et al., AAAI 2024, section 4): another task's experts inform this one,
    whose loss never moves them nor their embeddings. A row of the embedding table is `towers + 1` times as wide.

    Args:
        num_specific: Experts of every tower's own.
        num_shared: Shared experts.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty for a linear gate.
        activation: Activation of experts and gates.
        dropout: Dropout rate after every hidden layer of experts and gates.
        batch_normalization: Whether experts normalise before their activation.

    Input shape: `(towers + 1, batch, width)`, the shared embeddings last.
    Output shape: `(towers, batch, expert_units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "Su et al., AAAI 2024"

    def __init__(
        self,
        num_specific: int = 1,
        num_shared: int = 1,
        expert_units: Sequence[int] = (128, 64),
        gate_units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.1,
        batch_normalization: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.num_specific = check_positive("model.backbone.num_specific", num_specific)
        self.num_shared = check_positive("model.backbone.num_shared", num_shared)
        self.expert_units = check_units("model.backbone.expert_units", expert_units)
        self.gate_units = check_units("model.backbone.gate_units", gate_units, allow_empty=True)
        self.activation = check_activation("model.backbone.activation", activation)
        self.dropout = check_rate("model.backbone.dropout", dropout)
        self.batch_normalization = check_flag("model.backbone.batch_normalization", batch_normalization)

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.num_towers + 1, dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        dtype = self.dtype_policy
        network = (self.expert_units, self.activation, self.dropout, self.batch_normalization)
        self.specific = MLPBank(self.num_towers * self.num_specific, *network, dtype=dtype)
        self.shared = MLPBank(self.num_shared, *network, dtype=dtype)
        self.gates = GateBank(
            self.num_towers,
            self.num_towers * self.num_specific + self.num_shared,
            self.gate_units,
            self.activation,
            self.dropout,
            dtype=dtype,
        )
        one_each = (self.num_towers, None, input_shape[-1])
        self.specific.build(one_each)
        self.shared.build((None, input_shape[-1]))
        self.gates.build(one_each)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        own, shared = x[:-1], x[-1]
        specific = self.specific(ops.repeat(own, self.num_specific, axis=0), training=training)
        gates = self.gates(own + shared, training=training)  # (towers, batch, experts)
        return self.shared(shared, training=training), (specific, gates)

    def specialise(
        self, shared: tf.Tensor | None, private: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        specific, gates = private
        others = self.num_towers * self.num_specific
        # Every tower reads all experts; the gradient finds its own alone, `own[k, e]` being 1 there.
        own = ops.repeat(ops.eye(self.num_towers, dtype=specific.dtype), self.num_specific, axis=1)[:, :, None, None]
        stopped = ops.stop_gradient(specific)
        read = stopped + own * (specific - stopped)  # (towers, experts, batch, units)
        return mix_own_experts(gates[..., :others], read) + mix_experts(gates[..., others:], shared)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        specific = [f"{tower}_{place + 1}" for tower in self.structure.towers for place in range(self.num_specific)]
        shared = [f"shared_{place + 1}" for place in range(self.num_shared)]
        return [Gates("", self.structure.towers, (*specific, *shared), self.gates(x[:-1] + x[-1]))]
