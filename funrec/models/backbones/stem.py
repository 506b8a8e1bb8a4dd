"""STEM: shared and task-specific embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Experts, Gates, MixtureBackbone, numbered
from funrec.models.layers.experts import mix_experts, mix_own_experts
from funrec.utils.specs import Inherited, OptionalUnits, PositiveInt, Units


class STEM(MixtureBackbone):
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

    Input shape: `(towers + 1, batch, width)`, the shared embeddings last.
    Output shape: `(towers, batch, expert_units[-1])`.
    """

    paper = "Su et al., AAAI 2024"

    def __init__(
        self,
        num_specific: PositiveInt = 2,
        num_shared: PositiveInt = 2,
        expert_units: Units = (64, 32),
        gate_units: OptionalUnits = (),
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.num_specific = num_specific
        self.num_shared = num_shared
        self.expert_units = expert_units
        self.gate_units = gate_units

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.num_towers + 1, dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.specific = self.bank(self.num_towers * self.num_specific, self.expert_units)
        self.shared = self.bank(self.num_shared, self.expert_units)
        experts = self.num_towers * self.num_specific + self.num_shared
        self.gates = self.gate_bank(self.num_towers, experts, self.gate_units)
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
        gates = self.gates(x[:-1] + x[-1])
        return [Gates("", self.structure.towers, self.expert_names, gates, len(self.expert_names))]

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        shared, (specific, _) = self.share(x)
        return [Experts("", self.expert_names, ops.concatenate([specific, shared], axis=0))]

    @property
    def expert_names(self) -> tuple[str, ...]:
        """What the look inside calls the experts."""
        specific = [name for tower in self.structure.towers for name in numbered(tower, self.num_specific)]
        return (*specific, *numbered("shared", self.num_shared))
