"""Adaptive task-to-task fusion: every tower weighs the experts of all, level upon level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Experts, Gates, numbered
from funrec.models.backbones.cgc import CGC
from funrec.models.backbones.ple import PLE
from funrec.models.layers.experts import mix_experts
from funrec.models.layers.randomness import uniform_initializer
from funrec.utils.specs import Inherited, WholeNumber


class Fusion(NamedTuple):
    """What the experts and gates of one level give.

    Attributes:
        shared: Every tower's experts, tower by tower, then the shared ones, `(experts, batch, units)`; all towers read
            all of them.
        gates: The gates over all of them, `(streams, batch, experts)`; the shared stream's is the last, where it goes
            on to another level.
        native: What every stream takes of its own experts beside its gate, `(streams, experts)`.
    """

    shared: tf.Tensor
    gates: tf.Tensor
    native: tf.Tensor

    def streams(self) -> tf.Tensor:
        """Fuse the experts, `(streams, batch, units)`."""
        return mix_experts(self.gates + self.native[:, None, :], self.shared)

    def tower_streams(self) -> tf.Tensor:
        return self.streams()  # at the last level, which is asked for them, there are no others


class FusionLevel(keras.layers.Layer):
    """One level of experts, gates and native weights.

    Input shape: the streams, `(streams, batch, width)`; at the first level `x`, `(batch, width)`.
    """

    def __init__(self, backbone: CGC, is_last: bool, name: str) -> None:
        super().__init__(dtype=backbone.dtype_policy, name=name)
        towers, own, shared = backbone.num_towers, backbone.num_specific, backbone.num_shared
        #: How many experts each stream has of its own.
        self.sizes = [own] * towers + ([shared] if shared else [])
        self.num_streams = towers if is_last else len(self.sizes)
        names = [name for tower in backbone.structure.towers for name in numbered(tower, own)]
        self.expert_names = (*names, *numbered("shared", shared))
        self.experts = backbone.bank(sum(self.sizes), backbone.expert_units, "experts")
        self.gates = backbone.gate_bank(self.num_streams, sum(self.sizes), backbone.gate_units, "gates")

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.experts.build(input_shape)
        self.gates.build(input_shape)
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

    def gates_of(self, output: Fusion, name: str, towers: tuple[str, ...]) -> list[Gates]:
        """Return the level's gates under its name, with the towers' names."""
        readers, names = (*towers, "shared")[: self.num_streams], self.expert_names
        return [Gates(name, readers, names, output.gates, len(names))]

    def experts_of(self, output: Fusion, name: str, towers: tuple[str, ...]) -> Experts:
        """Return the level's experts under its name."""
        return Experts(name, self.expert_names, output.shared)


class AdaTT(PLE):
    """Experts of every tower's own and shared ones; at every level each tower weighs all, and its own once more.

    With `E` all experts of a level, `E_t` those of stream `t`, which read `f_t` of the level before:

        f_t' = softmax(W_t f_t) E + v_t E_t        (Li et al., KDD 2023, section 3: AllExpertGF + NativeExpertLF)

    The native weights `v_t` do not depend on the row, and are 1 for a single expert (the authors' code learns that one
    as well where another stream has several). The shared experts form a stream of their own, which ends before the last
    level; without shared experts this is the paper's AdaTT-sp.

    Args:
        num_shared: Shared experts, at every level.
    """

    paper = "Li et al., KDD 2023"
    level_class = FusionLevel

    def __init__(self, num_shared: WholeNumber = 1, **experts: Inherited) -> None:
        super().__init__(num_shared=num_shared, **experts)
