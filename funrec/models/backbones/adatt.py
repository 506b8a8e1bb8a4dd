"""Adaptive task-to-task fusion: every tower weighs the experts of all, level upon level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Experts, Gates, MixtureBackbone
from funrec.models.layers.experts import mix_experts
from funrec.models.layers.randomness import uniform_initializer
from funrec.utils.specs import Inherited, OptionalUnits, PositiveInt, Units, WholeNumber


class Fusion(NamedTuple):
    """What the experts and gates of one level give.

    Attributes:
        experts: Every tower's experts, tower by tower, then the shared ones, `(experts, batch, units)`.
        gates: The gates over all of them, `(streams, batch, experts)`; the shared stream's is the last, where it goes
            on to another level.
        native: What every stream takes of its own experts beside its gate, `(streams, experts)`.
    """

    experts: tf.Tensor
    gates: tf.Tensor
    native: tf.Tensor

    def streams(self) -> tf.Tensor:
        """Fuse the experts, `(streams, batch, units)`."""
        return mix_experts(self.gates + self.native[:, None, :], self.experts)


class FusionLevel(keras.layers.Layer):
    """One level of experts, gates and native weights.

    Input shape: the streams, `(streams, batch, width)`; at the first level `x`, `(batch, width)`.
    """

    def __init__(self, backbone: AdaTT, is_last: bool, name: str) -> None:
        super().__init__(dtype=backbone.dtype_policy, name=name)
        towers, self.num_shared = backbone.num_towers, backbone.num_shared
        #: How many experts each stream has of its own.
        self.sizes = [backbone.num_specific] * towers + ([self.num_shared] if self.num_shared else [])
        self.num_streams = towers if is_last else len(self.sizes)
        self.experts = backbone.bank(sum(self.sizes), backbone.expert_units, "experts")
        self.gates = backbone.gate_bank(self.num_streams, sum(self.sizes), backbone.gate_units, "gates")

    def build(self, shape: Sequence[int | None]) -> None:
        self.experts.build(shape)
        self.gates.build(shape if len(shape) == 2 else (self.num_streams, *shape[1:]))
        self.weights_of_own = [
            self.add_weight(shape=(size,), initializer=uniform_initializer(size**-0.5), name=f"native_{stream + 1}")
            if size > 1
            else None
            for stream, size in enumerate(self.sizes[: self.num_streams])
        ]

    def native(self) -> tf.Tensor:
        """Return the native weights `(streams, experts)`, zero where an expert is another stream's."""
        rows, before = [], 0
        for weights, size in zip(self.weights_of_own, self.sizes, strict=False):
            own = ops.ones((size,), self.compute_dtype) if weights is None else ops.cast(weights, self.compute_dtype)
            rows.append(ops.pad(own, ((before, sum(self.sizes) - before - size),)))
            before += size
        return ops.stack(rows)

    def call(self, streams: tf.Tensor, training: bool = False) -> Fusion:
        read = streams
        if len(streams.shape) == 3:
            read = ops.concatenate(
                [ops.repeat(streams[i : i + 1], size, axis=0) for i, size in enumerate(self.sizes)], axis=0
            )
            streams = streams[: self.num_streams]
        return Fusion(self.experts(read, training=training), self.gates(streams, training=training), self.native())


@keras.saving.register_keras_serializable(package="funrec")
class AdaTT(MixtureBackbone):
    """Experts of every tower's own and shared ones; at every level each tower weighs all, and its own once more.

    With `E` all experts of a level, `E_t` those of stream `t`, which read `f_t` of the level before:

        f_t' = softmax(W_t f_t) E + v_t E_t        (Li et al., KDD 2023, section 3: AllExpertGF + NativeExpertLF)

    The native weights `v_t` do not depend on the row, and are 1 for a single expert. The shared experts form a stream
    of their own, which ends before the last level; without shared experts this is the paper's AdaTT-sp.

    Args:
        num_levels: Number of levels.
        num_specific: Experts of every tower's own, at every level.
        num_shared: Shared experts, at every level.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty is the paper's linear gate.
        **mixture: See `MixtureBackbone`.

    Input shape: `(batch, width)`.
    Output shape: `(towers, batch, expert_units[-1])`.
    """

    paper = "Li et al., KDD 2023"

    def __init__(
        self,
        num_levels: PositiveInt = 2,
        num_specific: PositiveInt = 2,
        num_shared: WholeNumber = 1,
        expert_units: Units = (64,),
        gate_units: OptionalUnits = (),
        **mixture: Inherited,
    ) -> None:
        super().__init__(**mixture)
        self.num_levels = num_levels
        self.num_specific = num_specific
        self.num_shared = num_shared
        self.expert_units = expert_units
        self.gate_units = gate_units

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.levels = []
        shape = tuple(input_shape)
        for number in range(self.num_levels):
            level = FusionLevel(self, number == self.num_levels - 1, f"level_{number + 1}")
            level.build(shape)
            self.levels.append(level)
            shape = (sum(level.sizes), None, self.expert_units[-1])

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Fusion]:
        *_, last = self._fuse(x, training)
        return last.experts, last

    def specialise(self, shared: tf.Tensor | None, private: Fusion, training: bool = False) -> tf.Tensor:
        return private._replace(experts=shared).streams()

    def _fuse(self, x: tf.Tensor, training: bool) -> list[Fusion]:
        fusions: list[Fusion] = []
        for level in self.levels:
            fusions.append(level(fusions[-1].streams() if fusions else x, training=training))
        return fusions

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        names, readers = self._expert_names, (*self.structure.towers, "shared")
        return [
            Gates(self._name_of(level), readers[: level.num_streams], names, fusion.gates, len(names))
            for level, fusion in zip(self.levels, self._fuse(x, training=False), strict=True)
        ]

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        fusions = zip(self.levels, self._fuse(x, training=False), strict=True)
        return [Experts(self._name_of(level), self._expert_names, fusion.experts) for level, fusion in fusions]

    def _name_of(self, level: FusionLevel) -> str:
        return level.name if self.num_levels > 1 else ""

    @property
    def _expert_names(self) -> tuple[str, ...]:
        own = [f"{tower}_{place + 1}" for tower in self.structure.towers for place in range(self.num_specific)]
        return (*own, *(f"shared_{place + 1}" for place in range(self.num_shared)))
