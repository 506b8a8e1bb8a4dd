"""HoME: experts for all tasks, for groups of tasks and for single tasks, in two levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Gates, MixtureBackbone, numbered
from funrec.models.layers.experts import mix_experts, mix_own_experts
from funrec.models.layers.mlp import add_bank_kernel
from funrec.models.structure import Structure
from funrec.utils.errors import InputError
from funrec.utils.specs import Activation, Inherited, OptionalUnits, PositiveInt, Units, WholeNumber


class Level(NamedTuple):
    """What the tower level gives.

    Attributes:
        shared: Experts of all tasks, `(num_experts, batch, units)`.
        grouped: Experts of the tower's group, `(towers, num_experts, batch, units)`.
        specific: Experts of the tower, likewise.
        gates: `(towers, batch, 3 * num_experts)`, in this order.
    """

    shared: tf.Tensor
    grouped: tf.Tensor
    specific: tf.Tensor
    gates: tf.Tensor


class HoME(MixtureBackbone):
    """Two levels of experts, of which every task sees those of all tasks, of its group, and its own.

    The meta level mixes a representation for all tasks and one for each group `g` (Wang et al., 2024, section 3):

        z_s = softmax(W_s x) [E_s(x), E_1(x), E_2(x), ..] + self_s(x) E_s(x)
        z_g = softmax(W_g x) [E_s(x), E_g(x)]             + self_g(x) E_g(x)

    and the tower level what tower `t` of group `g` reads:

        h_t = softmax(W_t [z_g, z_s]) [E'_s(z_s), E'_g(z_g), E'_t(z_g)]

    `self` is a softmax, or a sigmoid where there is one expert. An expert is `Swish(BatchNorm(W x))`, and reads
    `x * sum_l softmax(V x)_l 2 sigmoid(x B_l A_l)`, a gate of its own on the features, at either level.

    Args:
        num_experts: Experts for all tasks, for every group and for every tower, at both levels.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax.
        feature_gates: Low-rank maps `B_l A_l` of every expert; 0 for no gate on the features.
        rank: Rank of each.
        self_gates: Whether there are self-gates.
        activation: Activation of the experts; `silu` is Swish.
        batch_normalization: Whether experts are normalised.

    Groups are those of `model.groups`; a task that none lists is a group of its own, and without groups all tasks are
    one.
    """

    paper = "Wang et al., 2024"

    def __init__(
        self,
        num_experts: PositiveInt = 2,
        expert_units: Units = (64,),
        gate_units: OptionalUnits = (),
        feature_gates: WholeNumber = 2,
        rank: PositiveInt = 4,
        self_gates: bool = True,
        activation: Activation = "silu",
        batch_normalization: bool = True,
        **mixture: Inherited,
    ) -> None:
        super().__init__(activation=activation, batch_normalization=batch_normalization, **mixture)
        self.num_experts = num_experts
        self.expert_units = expert_units
        self.gate_units = gate_units
        self.feature_gates = feature_gates
        self.rank = rank
        self.self_gates = self_gates

    def configure(self, structure: Structure) -> None:
        super().configure(structure)
        listed = [tower for members in structure.groups.values() for tower in members]
        for tower in listed:
            if listed.count(tower) > 1:
                raise InputError(f"model.groups should list a task once, for home. Received: {tower} in two groups.")
        names = [next((g for g, of in structure.groups.items() if t in of), t) for t in structure.towers]
        names = names if structure.groups else ["all"] * len(names)
        self.group_names = list(dict.fromkeys(names))
        #: The place of every tower's group.
        self.group_of = [self.group_names.index(name) for name in names]

    def build(self, input_shape: Sequence[int | None]) -> None:
        own, groups, towers, units = self.num_experts, len(self.group_names), self.num_towers, self.expert_units[-1]
        width = input_shape[-1]
        self.meta = self.bank((1 + groups) * own, self.expert_units, "meta")
        self.meta_features = self._feature_gate((1 + groups) * own, width, "meta_features")
        self.shared_gate = self.gate_bank(1, (1 + groups) * own, self.gate_units, "shared_gate")
        self.group_gates = self.gate_bank(groups, 2 * own, self.gate_units, "group_gates")
        self.self_gate = add_bank_kernel(self, 1 + groups, width, own, "self_gate") if self.self_gates else None
        count = (1 + groups + towers) * own
        self.experts = self.bank(count, self.expert_units, "experts")
        self.features = self._feature_gate(count, units, "features")
        self.gates = self.gate_bank(towers, 3 * own, self.gate_units, "gates")
        self.meta.build(input_shape)
        self.shared_gate.build(input_shape)
        self.group_gates.build(input_shape)
        self.experts.build((count, None, units))
        self.gates.build((towers, None, 2 * units))

    def _feature_gate(self, count: int, width: int | None, name: str) -> FeatureGate | None:
        if not self.feature_gates:
            return None
        gate = FeatureGate(count, self.feature_gates, self.rank, dtype=self.dtype_policy, name=name)
        gate.build((count, None, width))
        return gate

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Level]:
        meta, shared_gate, group_gates = self._meta_level(x, training)
        own, groups, towers = self.num_experts, len(self.group_names), self.num_towers
        z = self._represent(x, meta, shared_gate, group_gates)  # (1 + groups, batch, units)
        z_group = ops.take(z[1:], self.group_of, axis=0)
        read = ops.repeat(ops.concatenate([z, z_group], axis=0), own, axis=0)
        experts = self.experts(self.features(read) if self.features else read, training=training)
        experts = ops.reshape(experts, (1 + groups + towers, own, -1, experts.shape[-1]))
        both = ops.concatenate([z_group, ops.repeat(z[:1], towers, axis=0)], axis=-1)
        level = Level(
            experts[0],
            ops.take(experts[1 : 1 + groups], self.group_of, axis=0),
            experts[1 + groups :],
            self.gates(both, training=training),
        )
        return level.shared, level

    def specialise(self, shared: tf.Tensor | None, private: Level, training: bool = False) -> tf.Tensor:
        own = self.num_experts
        return (
            mix_experts(private.gates[..., :own], shared)
            + mix_own_experts(private.gates[..., own : 2 * own], private.grouped)
            + mix_own_experts(private.gates[..., 2 * own :], private.specific)
        )

    def _meta_level(self, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        experts = self.meta(self.meta_features(x) if self.meta_features else x, training=training)
        return experts, self.shared_gate(x, training=training), self.group_gates(x, training=training)

    def _represent(self, x: tf.Tensor, meta: tf.Tensor, shared_gate: tf.Tensor, group_gates: tf.Tensor) -> tf.Tensor:
        own = self.num_experts
        by_owner = ops.reshape(meta, (1 + len(self.group_names), own, -1, meta.shape[-1]))
        z_shared = mix_experts(shared_gate, meta)
        z_groups = mix_experts(group_gates[..., :own], by_owner[0])
        z_groups += mix_own_experts(group_gates[..., own:], by_owner[1:])
        z = ops.concatenate([z_shared, z_groups], axis=0)
        if self.self_gate is None:
            return z
        scores = ops.matmul(x[None], ops.cast(self.self_gate, x.dtype))
        return z + mix_own_experts(tf.nn.softmax(scores) if own > 1 else ops.sigmoid(scores), by_owner)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        def names(*owners: str) -> tuple[str, ...]:
            return tuple(name for owner in owners for name in numbered(owner, self.num_experts))

        _, shared_gate, group_gates = self._meta_level(x, training=False)
        groups = [f"group_{name}" for name in self.group_names]
        found = [Gates("meta", ("shared",), names("shared", *groups), shared_gate)]
        for place, name in enumerate(self.group_names):
            gate = group_gates[place : place + 1]
            found.append(Gates(f"meta_{name}", ("shared",), names("shared", groups[place]), gate))
        level = self.share(x)[1]
        return [*found, Gates("", self.structure.towers, names("shared", "group", "specific"), level.gates)]


class FeatureGate(keras.layers.Layer):
    """A gate of every expert's own on what it reads: `x * sum_l softmax(V x)_l 2 sigmoid(x B_l A_l)`.

    Input shape: `(batch, width)` or `(count, batch, width)`.
    Output shape: `(count, batch, width)`.
    """

    def __init__(self, count: int, maps: int, rank: int, **layer: object) -> None:
        super().__init__(**layer)
        self.count, self.maps, self.rank = count, maps, rank

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = int(input_shape[-1] or 0)
        self.down = add_bank_kernel(self, self.count, width, self.maps * self.rank, "down")
        self.up = [add_bank_kernel(self, self.count, self.rank, width, f"up_{place + 1}") for place in range(self.maps)]
        self.mixture = add_bank_kernel(self, self.count, width, self.maps, "mixture") if self.maps > 1 else None

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = x if len(x.shape) == 3 else x[None]
        low = ops.split(ops.matmul(x, self.down), self.maps, axis=-1)
        gates = [2 * ops.sigmoid(ops.matmul(part, up)) for part, up in zip(low, self.up, strict=True)]
        if self.mixture is None:
            return x * gates[0]
        shares = tf.nn.softmax(ops.matmul(x, self.mixture))  # (count, batch, maps)
        return x * sum(shares[..., place : place + 1] * gate for place, gate in enumerate(gates))
