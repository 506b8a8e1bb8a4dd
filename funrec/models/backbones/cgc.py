"""Customized gate control: shared and task-specific experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Experts, Gates, MixtureBackbone, numbered
from funrec.models.layers.experts import mix_experts, mix_own_experts
from funrec.utils.specs import Inherited, OptionalUnits, PositiveInt, Units


class LevelOutput(NamedTuple):
    """What the experts and gates of one level give.

    Attributes:
        specific: Task-specific experts, `(towers, num_specific, batch, units)`.
        shared: Shared experts, `(num_shared, batch, units)`.
        gates: The towers' gates over their own experts, then the shared ones, `(towers, batch, experts)`.
        shared_gate: The shared stream's gate over all towers' experts, then the shared ones, `(1, batch, all)`;
            none at the last level.
    """

    specific: tf.Tensor
    shared: tf.Tensor
    gates: tf.Tensor
    shared_gate: tf.Tensor | None

    def tower_streams(self) -> tf.Tensor:
        """Mix every tower's own and the shared experts, `(towers, batch, units)`."""
        own = self.specific.shape[1]
        return mix_own_experts(self.gates[..., :own], self.specific) + mix_experts(self.gates[..., own:], self.shared)

    def streams(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the towers' streams, and the shared one, which mixes all experts, `(1, batch, units)`."""
        return self.tower_streams(), mix_experts(self.shared_gate, self.every_expert())

    def every_expert(self) -> tf.Tensor:
        """Return the task-specific experts, tower by tower, then the shared ones, `(all, batch, units)`."""
        towers, own, _, units = self.specific.shape
        return ops.concatenate([ops.reshape(self.specific, (towers * own, -1, units)), self.shared], axis=0)


class ExtractionLevel(keras.layers.Layer):
    """One level of shared and task-specific experts with their gates (Tang et al., RecSys 2020, section 4).

    Every gate is a softmax of its own stream: tower `k`'s over its `num_specific` and the `num_shared` experts, and
    below the last level the shared stream's over all experts.

    Input: the towers' streams `(towers, batch, width)` and the shared stream `(1, batch, width)`; at the first level
    `x` `(batch, width)`, which is all of them.
    """

    def __init__(self, backbone: CGC, is_last: bool, name: str) -> None:
        super().__init__(dtype=backbone.dtype_policy, name=name)
        self.num_towers, self.num_specific = backbone.num_towers, backbone.num_specific
        self.num_shared = backbone.num_shared
        specific = self.num_towers * self.num_specific
        self.specific = backbone.bank(specific, backbone.expert_units, "specific")
        self.shared = backbone.bank(self.num_shared, backbone.expert_units, "shared")
        self.gates = backbone.gate_bank(
            self.num_towers, self.num_specific + self.num_shared, backbone.gate_units, "gates"
        )
        self.shared_gate = None
        if not is_last:
            self.shared_gate = backbone.gate_bank(1, specific + self.num_shared, backbone.gate_units, "shared_gate")

    def build(self, input_shape: Sequence[int | None]) -> None:
        for part in (self.specific, self.shared, self.gates, self.shared_gate):
            if part is not None:
                part.build(input_shape)

    def call(self, streams: Any, training: bool = False) -> LevelOutput:
        towers, shared = streams if isinstance(streams, tuple) else (streams, streams)
        own = towers if len(towers.shape) == 2 else ops.repeat(towers, self.num_specific, axis=0)
        specific = self.specific(own, training=training)
        return LevelOutput(
            ops.reshape(specific, (self.num_towers, self.num_specific, -1, specific.shape[-1])),
            self.shared(shared, training=training),
            self.gates(towers, training=training),
            None if self.shared_gate is None else self.shared_gate(shared, training=training),
        )

    def gates_of(self, output: LevelOutput, name: str, towers: tuple[str, ...]) -> list[Gates]:
        """Return the level's gates under its name, with the towers' names."""
        names = (*numbered("specific", self.num_specific), *numbered("shared", self.num_shared))
        gates = [Gates(name, towers, names, output.gates, self.num_shared)]
        if output.shared_gate is not None:
            gates.append(Gates(name, ("shared",), self.experts_of(output, name, towers).experts, output.shared_gate))
        return gates

    def experts_of(self, output: LevelOutput, name: str, towers: tuple[str, ...]) -> Experts:
        """Return the level's experts under its name, those of the towers with their names."""
        specific = [name for tower in towers for name in numbered(f"{tower}_specific", self.num_specific)]
        return Experts(name, (*specific, *numbered("shared", self.num_shared)), output.every_expert())


class CGC(MixtureBackbone):
    """Shared experts and experts of every tower's own; one gate per tower over its own and the shared ones.

    `h_k = sum_e softmax(W_k x)_e * [E_k,1(x) .. E_k,m(x), E_s,1(x) .. E_s,n(x)]_e`   (Tang et al., RecSys 2020,
    eq. 1-4)

    Args:
        num_specific: Experts of every tower's own, `m`.
        num_shared: Shared experts, `n`.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty is the paper's linear gate.
    """

    paper = "Tang et al., RecSys 2020"

    #: Levels of experts, one above another; more than one in PLE.
    num_levels = 1
    level_class: type[keras.layers.Layer] = ExtractionLevel

    def __init__(
        self,
        num_specific: PositiveInt = 2,
        num_shared: PositiveInt = 2,
        expert_units: Units = (64,),
        gate_units: OptionalUnits = (),
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.num_specific = num_specific
        self.num_shared = num_shared
        self.expert_units = expert_units
        self.gate_units = gate_units

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.levels = []
        width = input_shape[-1]
        for number in range(self.num_levels):
            level = self.level_class(self, number == self.num_levels - 1, f"level_{number + 1}")
            level.build((None, width))
            self.levels.append(level)
            width = self.expert_units[-1]

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Any]:
        *_, last = self._extract(x, training)
        return last.shared, last

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return private._replace(shared=shared).tower_streams()

    def _extract(self, x: tf.Tensor, training: bool) -> list[Any]:
        outputs: list[Any] = []
        for level in self.levels:
            outputs.append(level(outputs[-1].streams() if outputs else x, training=training))
        return outputs

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        levels = [level.gates_of(*known) for level, known in self._by_level(x)]
        return [gates for level in levels for gates in level]

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        return [level.experts_of(*known) for level, known in self._by_level(x)]

    def _by_level(self, x: tf.Tensor) -> Iterator[tuple[Any, tuple[Any, str, tuple[str, ...]]]]:
        for level, output in zip(self.levels, self._extract(x, training=False), strict=True):
            yield level, (output, level.name if self.num_levels > 1 else "", self.structure.towers)
