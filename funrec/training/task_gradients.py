"""Every task's gradient over what the tasks share: their Gramian, and from their parts the step's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from funrec.models.model import Batch, MultiTaskModel
from funrec.models.penalty import penalty_weights
from funrec.models.sharing import find_sharing
from funrec.training.shards import Shard, auxiliary_loss, logits_of, penalties, run_forward
from funrec.training.workers import ALONE, Workers
from funrec.utils.errors import InputError


class Forward(NamedTuple):
    """What a step computed on the way to the losses, under a persistent tape.

    Attributes:
        tape: Recorded all of it.
        shards: The parts of the batch.
        losses: The tasks' losses, `(tasks,)`.
        penalty: What the step descends besides, a function of the embeddings, by tower (see
            `funrec.models.penalty`); None where there is none.
        auxiliary: What the step descends besides, a function of the logits; None where there is none.
    """

    tape: tf.GradientTape
    shards: list[Shard]
    losses: tf.Tensor
    penalty: tf.Tensor | None
    auxiliary: tf.Tensor | None

    @property
    def representation(self) -> list[tf.Tensor]:
        """What the towers read, by shard, `(towers, rows, units)`."""
        return [shard.representation for shard in self.shards]

    @property
    def x(self) -> list[tf.Tensor]:
        """The embedded rows, by shard."""
        return [shard.embedded.x for shard in self.shards]


class TaskGradients(NamedTuple):
    """Every task's gradients, up to where the towers begin and, for `all_shared`, further.

    Attributes:
        gramian: `G[i, j] = <grad_i, grad_j>`, float32 `(tasks, tasks)`.
        cotangents: By task, then by shard: the gradient at the representation, `(towers, rows, units)`.
        towers: Of the sum of all losses, by tower variable, then for the linear term; None where it mixes.
        passes: By task, for `all_shared`: of the shared variables, then of the embedded batch by shard; else empty.
    """

    gramian: tf.Tensor
    cotangents: list[list[tf.Tensor]]
    towers: list[tf.Tensor] | None
    passes: list[list[tf.Tensor]]


class SharedGradients:
    """Takes per-task gradients where a weighting asks for them, and puts the step's gradient together.

    Towers are block-diagonal: a tower's input reaches one task's loss only. So one backward pass of the sum of all
    losses through the towers gives every task's gradient at its tower's input, batch normalisation included (it
    normalises each tower by itself). A funnel that mixes towers takes T passes. From there on, `source` decides how far
    every task's gradient is pulled on by itself:

    - `representation`: through `specialise`, to the backbone's shared tensor (the embedded batch for embedding_only);
    - `last_shared_layer`: to the shared variables of the last layer;
    - `all_shared`: to all shared variables and to the batch's embeddings, summed by row of the table: one row per
      different id, never a dense array per task. The wide part's weights are each one tower's own, and left out.

    `funrec.models.sharing` finds what is shared. Of a variable that is shared in part, the rest is left out.

    A backbone that shares embeddings and no variable has them as its last shared layer.

    What was pulled is used again: a gradient is linear in the losses, so the step's own backward pass starts at the
    representation, from the weighted sum of the tasks' gradients there, and for `all_shared` the weighted sum of the T
    passes is its result.

    Args:
        model: An initialised model.
        source: `representation`, `last_shared_layer` or `all_shared`.

    Raises:
        InputError: If the model shares nothing.
    """

    def __init__(self, model: MultiTaskModel, source: str) -> None:
        self.model = model
        backbone = model.backbone
        shared, _ = backbone.share(model.read(model.embed(model.layout.empty_batch(rows=2))))
        if shared is None:
            name = type(backbone).__module__.rpartition(".")[2]
            raise InputError(
                "weighting should be one that reads losses, such as fixed or uncertainty: the tasks share nothing in "
                f"model.backbone={name} at which their gradients could be compared. Change either."
            )
        width = model.embedding.width + len(model.layout.numeric_features)
        self.sharing = sharing = find_sharing(model.interaction, backbone, width)
        self.shared, self.own, self.last = map(_values, (sharing.variables, sharing.own, sharing.last))
        #: By place in `shared`: 1 where a slice is shared, for variables that are shared in part.
        self.parts = {
            place: tf.constant(slices.reshape(-1, *[1] * (value.shape.rank - 1)), tf.float32)
            for place, (value, slices) in enumerate(zip(self.shared, sharing.slices, strict=True))
            if not slices.all()
        }
        self.towers = _values(model.towers.trainable_variables if model.towers is not None else [])
        self.tables = _values(model.embedding.trainable_variables)
        self.poolings = _values([v for reader in model.embedding.readers for v in reader.trainable_variables])
        known = {id(value) for value in (*self.shared, *self.own, *self.towers, *self.tables)}
        self.others = [value for value in _values(model.trainable_variables) if id(value) not in known]
        is_last_embeddings = source == "last_shared_layer" and not self.last
        self.source = "all_shared" if is_last_embeddings else source
        self.mixes_towers = model.funnel.mixes_towers

    def run_forward(self, batch: Batch, offsets: Any, shards: int = 1, workers: Workers = ALONE) -> Forward:
        """Compute the losses of `batch` in so many shards, keeping what the gradients are taken at."""
        model = self.model
        with tf.GradientTape(persistent=True) as tape:
            parts = run_forward(model, batch, shards, workers)
            logits = logits_of(parts, workers)
            losses = model.task_losses(logits, batch, offsets)
            penalty = penalties(model, parts, batch["labels"].shape[0])
            return Forward(tape, parts, losses, penalty, auxiliary_loss(model, parts, logits, workers))

    def pull(self, forward: Forward) -> TaskGradients:
        """Take every task's gradient as far as `source` says."""
        tape, representation, tasks = forward.tape, forward.representation, len(self.model.tasks)
        if self.mixes_towers:
            towers = None
            cotangents = [
                _gradients(tape, [forward.losses], representation, [task]) for task in tf.unstack(tf.eye(tasks))
            ]
        else:
            everything = _gradients(tape, [forward.losses], [*representation, *self._head(forward)])
            at_towers, towers = everything[: len(representation)], everything[len(representation) :]
            blocks = tf.eye(tasks, dtype=at_towers[0].dtype)
            cotangents = [[blocks[task][:, None, None] * part for part in at_towers] for task in range(tasks)]
        sources = {
            "representation": [shard.shared for shard in forward.shards],
            "last_shared_layer": self.last,
            "all_shared": [*self.shared, *forward.x],
        }[self.source]
        pulled = [_gradients(tape, representation, sources, cotangent) for cotangent in cotangents]
        if self.source != "all_shared":
            return TaskGradients(self._gramian(sources, pulled), cotangents, towers, [])
        variables = len(self.shared)
        gramian = self._embedding_gramian(forward, [gradients[variables:] for gradients in pulled])
        if self.shared:
            gramian += self._gramian(self.shared, [gradients[:variables] for gradients in pulled])
        return TaskGradients(gramian, cotangents, towers, pulled)

    def combine(self, forward: Forward, pulled: TaskGradients, weights: tf.Tensor, own: tf.Tensor) -> list[Any]:
        """Return the step's gradient, by trainable variable of the model.

        The losses are weighted by `weights`, and for parameters of one task alone by `own`, both `(tasks,)`; `own` may
        be `weights` itself.
        """
        tape, representation = forward.tape, forward.representation
        towers = self._tower_gradients(forward, pulled, own)
        shared_weighted = _weighted_sums(pulled.cotangents, weights)
        own_weighted = shared_weighted if own is weights else _weighted_sums(pulled.cotangents, own)
        sources = [*self.shared, *forward.x]
        if pulled.passes:
            shared = _weighted_sums(pulled.passes, weights)
            mine = _gradients(tape, representation, self.own, own_weighted)
        elif own is weights:
            both = _gradients(tape, representation, [*sources, *self.own], shared_weighted)
            shared, mine = both[: len(sources)], both[len(sources) :]
        else:
            shared = _gradients(tape, representation, sources, shared_weighted)
            mine = _gradients(tape, representation, self.own, own_weighted)
        if own is not weights and self.parts:
            rest = _gradients(tape, representation, [self.shared[place] for place in self.parts], own_weighted)
            for (place, part), gradient in zip(self.parts.items(), rest, strict=True):
                shared[place] = part * shared[place] + (1.0 - part) * gradient
        places, gradients = [*sources, *self.own, *self._head(forward)], [*shared, *mine, *towers]
        if forward.auxiliary is not None:  # it may read gates besides logits, and so has a pass of its own
            more = _gradients(tape, [forward.auxiliary], places)
            gradients = [gradient + extra for gradient, extra in zip(gradients, more, strict=True)]
        found = {id(place): gradient for place, gradient in zip(places, gradients, strict=True)}
        targets = [*forward.x, *_linear(forward)]
        cotangents = [found[id(target)] for target in targets]
        if forward.penalty is not None:
            targets.append(forward.penalty)
            cotangents.append(penalty_weights(self.model, own))
        lowest = [*self.tables, *self.others]
        found |= zip(map(id, lowest), _gradients(tape, targets, lowest, cotangents), strict=True)
        return [found[id(value)] for value in _values(self.model.trainable_variables)]

    def _head(self, forward: Forward) -> list[Any]:
        """Return what stands between the representation and the logits: the towers' variables, the linear term."""
        return [*self.towers, *_linear(forward)]

    def _tower_gradients(self, forward: Forward, pulled: TaskGradients, own: tf.Tensor) -> list[tf.Tensor]:
        if pulled.towers is None:
            return _gradients(forward.tape, [forward.losses], self._head(forward), [own])
        # Whatever belongs to towers has them in front, in the order of the tasks.
        return [gradient * tf.reshape(own, (-1,) + (1,) * (gradient.ndim - 1)) for gradient in pulled.towers]

    def _embedding_gramian(self, forward: Forward, at_embeddings: list[list[tf.Tensor]]) -> tf.Tensor:
        """Return the Gramian over the tables' rows and poolings, from every task's gradients at the embedded shards."""
        tasks, linear_units = len(at_embeddings), self.model.embedding.linear_units
        tables = list(zip(*(shard.embedded.lookups for shard in forward.shards), strict=True))  # each by shard
        lookups = [lookup for table in tables for lookup in table]
        sources = [*(lookup.rows for lookup in lookups), *self.poolings]
        by_task = [
            _gradients(forward.tape, forward.x, sources, [self._keep_shared_copies(part) for part in gradients])
            for gradients in at_embeddings
        ]
        total = tf.zeros((tasks, tasks))
        if self.poolings:
            total += self._gramian(self.poolings, [gradients[len(lookups) :] for gradients in by_task])
        for place, table in enumerate(tables):
            width = table[0].rows.shape[-1] - linear_units
            parts = slice(place * len(table), (place + 1) * len(table))
            at_rows = [tf.concat(gradients[parts], axis=0)[..., :width] for gradients in by_task]
            rows, position = tf.unique(tf.concat([lookup.ids for lookup in table], axis=0))
            flat = tf.cast(tf.reshape(tf.stack(at_rows, axis=1), (-1, tasks * width)), tf.float32)
            sums = tf.reshape(tf.math.unsorted_segment_sum(flat, position, tf.size(rows)), (-1, tasks, width))
            total += _products(tf.reshape(tf.transpose(sums, (1, 0, 2)), (tasks, -1)))
        return total

    def _keep_shared_copies(self, at_embeddings: tf.Tensor) -> tf.Tensor:
        copies = self.sharing.copies
        return at_embeddings if copies.all() else at_embeddings * tf.cast(copies[:, None, None], at_embeddings.dtype)

    def _gramian(self, sources: list[Any], by_task: list[list[tf.Tensor]]) -> tf.Tensor:
        """Return the Gramian, float32, of gradients by task and then by source, of what is shared of each."""
        part_of = {id(self.shared[place]): part for place, part in self.parts.items()}
        products = []
        for source, gradients in zip(sources, zip(*by_task, strict=True), strict=True):
            rows = [tf.cast(gradient, tf.float32) * part_of.get(id(source), 1.0) for gradient in gradients]
            products.append(_products(tf.stack([tf.reshape(row, [-1]) for row in rows])))
        return tf.add_n(products)


def _values(variables: Sequence[Any]) -> list[Any]:
    return [variable.value for variable in variables]


def _gradients(
    tape: tf.GradientTape, targets: Sequence[Any], sources: Sequence[Any], cotangents: Sequence[Any] | None = None
) -> list[Any]:
    """Return the gradients of `targets` with respect to `sources`; zeros where nothing connects them."""
    if not sources:
        return []
    return tape.gradient(
        list(targets),
        list(sources),
        output_gradients=None if cotangents is None else list(cotangents),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _linear(forward: Forward) -> list[tf.Tensor]:
    """Return what the wide part adds to the logits, by shard; empty without one."""
    return [shard.embedded.linear for shard in forward.shards if shard.embedded.linear is not None]


def _weighted_sums(by_task: Sequence[Sequence[tf.Tensor]], weights: tf.Tensor) -> list[tf.Tensor]:
    """Return the tasks' weighted sum of every gradient in their lists."""
    return [
        tf.add_n([tf.cast(weights[task], gradient.dtype) * gradient for task, gradient in enumerate(gradients)])
        for gradients in zip(*by_task, strict=True)
    ]


def _products(rows: tf.Tensor) -> tf.Tensor:
    return tf.matmul(rows, rows, transpose_b=True)
