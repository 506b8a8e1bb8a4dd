"""Adaptive information transfer: every tower reads the one before it in the funnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.config.build import build
from funrec.models.backbones.base import Backbone, Experts, Gates, NetworkBackbone
from funrec.models.funnels.base import LogProbability
from funrec.models.layers.experts import as_gates
from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.structure import Structure
from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import Inherited, NotNegative, Units


class AITM(NetworkBackbone):
    """Wraps a backbone and passes information along the funnel (Xi et al., KDD 2021, eq. 4-9).

    With `q_t = f_t(h_t)` a network per tower on what the inner backbone made, and `t'` the tower before `t`:

        p_t = g_t'(z_t')
        z_t = sum_{u in q_t, p_t} w_u h_1(u),   w_u = softmax(<h_2(u), h_3(u)> / sqrt(k)),   z_t = q_t for the first

    `h_1`, `h_2` and `h_3` are one set for all towers, as in the paper's code. Which tower comes before which is said by
    `dataset.tasks.<name>.after`; where no task says so, each comes after the one listed before it, as in the paper.

    The behavioural expectation calibrator `calibration * mean(max(p_t - p_t', 0))` (eq. 12) is added to the loss for
    every binary task with an `after`; a funnel that nests the probabilities leaves it nothing to do.

    Args:
        inner: The wrapped backbone's configuration; `embedding_only` gives the paper's model.
        units: Hidden units of every `f_t`, input side first.
        calibration: The calibrator's weight; 0 for none. The paper's code uses 0.6.

    Input shape: the inner backbone's.
    Output shape: `(towers, batch, units[-1])`.
    """

    paper = "Xi et al., KDD 2021"
    last_shared_layer = "networks"

    def __init__(
        self,
        inner: Mapping[str, Any],
        units: Units = (64, 32),
        calibration: NotNegative = 0.6,
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.inner = build(inner, Backbone, "model.backbone.inner", dtype=self.dtype_policy)
        if not self.inner.has_towers:
            raise InputError(
                "model.backbone.inner should be a backbone that towers stand on. Received: "
                f"{type(self.inner).__name__}, whose output is the logits."
            )
        self.context = self.inner.context
        self.embedding_limit = self.inner.embedding_limit
        self.units = units
        self.calibration = calibration

    def configure(self, structure: Structure) -> None:
        super().configure(structure)
        self.inner.configure(structure)
        self.parents = structure.parents
        if all(parent is None for parent in self.parents):
            self.parents = (None, *range(self.num_towers - 1))
        depths = [len(self._ancestors(tower)) for tower in range(self.num_towers)]
        #: The towers that hear from another, those at the same distance from the first together, nearest first.
        self.stages = [
            [tower for tower, known in enumerate(depths) if known == depth] for depth in range(1, max(depths) + 1)
        ]

    def receive_fields(self, structure: Structure) -> None:
        super().receive_fields(structure)
        self.inner.receive_fields(structure)

    def _ancestors(self, tower: int) -> list[int]:
        parent = self.parents[tower]
        return [] if parent is None else [parent, *self._ancestors(parent)]

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.inner.embedding_layout(dim)

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = self.units[-1]
        self.inner.build(input_shape)
        rows = (*input_shape[:-2], 2, input_shape[-1])
        inner_units = self.inner.compute_output_spec(keras.KerasTensor(rows, dtype="float32"))
        self.networks = self.bank(self.num_towers, self.units)
        self.networks.build((self.num_towers, None, inner_units.shape[-1]))
        self.informers = []
        for number, stage in enumerate(self.stages):
            network = (len(stage), (width,), self.activation, self.dropout)
            informer = MLPBank(*network, dtype=self.dtype_policy, name=f"informer_{number + 1}")
            informer.build((len(stage), None, width))
            self.informers.append(informer)
        # h_1, h_2 and h_3; with one tower there is none before it.
        self.attention = add_bank_kernel(self, 3, width, width, "attention") if self.stages else None

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor | None, Any]:
        return self.inner.share(x, training)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return self._transfer(self.inner.specialise(shared, private, training), training)[0]

    def _transfer(self, representation: tf.Tensor, training: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return `z` of every tower, and by stage the weights `(towers, batch, 2)` of own and received information."""
        own = self.networks(representation, training=training)  # (towers, batch, units)
        streams = dict(enumerate(ops.unstack(own, self.num_towers)))
        weights = []
        for stage, informer in zip(self.stages, self.informers, strict=True):
            heard = [parent for t in stage if (parent := self.parents[t]) is not None]
            received = informer(ops.stack([streams[parent] for parent in heard]), training=training)
            both = ops.stack([ops.stack([streams[t] for t in stage]), received], axis=1)  # (stage, 2, batch, units)
            attention = ops.cast(self.attention, both.dtype)
            values, keys, queries = (ops.matmul(both, attention[place]) for place in range(3))
            fit = ops.sum(keys * queries, axis=-1) / self.units[-1] ** 0.5  # (stage, 2, batch)
            share = as_gates(ops.transpose(ops.softmax(fit, axis=1), (0, 2, 1)))  # (stage, batch, 2)
            mixed = ops.sum(ops.expand_dims(ops.transpose(share, (0, 2, 1)), -1) * values, axis=1)
            streams.update(zip(stage, ops.unstack(mixed, len(stage)), strict=True))
            weights.append(share)
        return ops.stack([streams[tower] for tower in range(self.num_towers)]), weights

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        gates = self.inner.gates_of(x)
        _, weights = self._transfer(self.inner(x), training=False)
        for stage, stage_weights in zip(self.stages, weights, strict=True):
            names = tuple(self.structure.towers[tower] for tower in stage)
            gates.append(Gates("transfer", names, ("own", "received"), stage_weights))
        return gates

    def experts_of(self, x: tf.Tensor) -> list[Experts]:
        return self.inner.experts_of(x)

    def auxiliary_loss(
        self, probabilities: Mapping[str, LogProbability], tasks: Sequence[Task], x: tf.Tensor
    ) -> tf.Tensor | None:
        inner = self.inner.auxiliary_loss(probabilities, tasks, x)
        excess = [
            tf.nn.relu(tf.exp(probabilities[task.name].log_p) - tf.exp(probabilities[task.after].log_p))
            for task in tasks
            if task.after is not None and task.after in probabilities and task.name in probabilities
        ]
        if not self.calibration or not excess:
            return inner
        own = self.calibration * tf.reduce_mean(tf.add_n(excess))
        return own if inner is None else own + inner
