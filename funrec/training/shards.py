"""A batch in shards, whose passes run beside each other in one graph, every operation of theirs on a thread of its own.

The products of these models are small, and cutting each of them over the cores wastes a third of two cores. Shards meet
at the logits: losses, and with them means, masks, groups and weightings, are those of the whole batch, and so are
gradients, which TensorFlow sums over the shards in a fixed order. Tables therefore depend on how many shards there are,
which the configuration says, and not on how many cores compute them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import tensorflow as tf

from funrec.config.build import resolve
from funrec.models.backbones.base import Backbone
from funrec.models.layers.embedding import Embedded
from funrec.models.model import Batch, MultiTaskModel
from funrec.models.penalty import penalty
from funrec.training.workers import ALONE, Workers
from funrec.utils.errors import InputError
from funrec.utils.files import flatten
from funrec.utils.machine import cores

log = logging.getLogger("funrec")


class Shard(NamedTuple):
    """What the passes of some rows of a batch left behind.

    Attributes:
        embedded: The rows, looked up.
        x: What the backbone read.
        shared: The backbone's shared tensor.
        representation: What the towers read, `(towers, rows, units)`.
        logits: `(towers, rows)`.
    """

    embedded: Embedded
    x: tf.Tensor
    shared: tf.Tensor | None
    representation: tf.Tensor
    logits: tf.Tensor


def run_forward(model: MultiTaskModel, batch: Batch, shards: int, workers: Workers = ALONE) -> list[Shard]:
    """Run the training pass of this worker's part of `batch` in so many shards."""
    with workers.drawing_apart():
        return [_run_forward(model, part) for part in cut(batch, shards)]


def _run_forward(model: MultiTaskModel, batch: Batch) -> Shard:
    embedded = model.embed(batch)
    x = model.read(embedded, training=True)
    shared, private = model.backbone.share(x, training=True)
    representation = model.backbone.specialise(shared, private, training=True)
    return Shard(embedded, x, shared, representation, model.head(representation, embedded.linear, training=True))


def cut(batch: Batch, shards: int, multiple: int = 1) -> list[dict[str, Any]]:
    """Return the inputs of a batch in `shards` parts, nearly equal multiples of `multiple` rows; fewer if short."""
    inputs = {name: batch[name] for name in ("ids", "numeric", "sequences") if name in batch}
    if shards == 1:
        return [inputs]
    rows = int(inputs["ids"].shape[0])
    units = -(-rows // multiple)
    parts = min(shards, units)
    edges = [min(rows, multiple * (units * part // parts)) for part in range(parts + 1)]
    return [
        tf.nest.map_structure(lambda x: x[start:stop], inputs)  # noqa: B023 - used up within the iteration
        for start, stop in pairwise(edges)
    ]


def logits_of(shards: Sequence[Shard], workers: Workers = ALONE) -> tf.Tensor:
    """Return the whole batch's logits, `(towers, batch)`."""
    return workers.join(tf.concat([shard.logits for shard in shards], axis=1))


def penalties(model: MultiTaskModel, shards: Sequence[Shard], rows: int) -> tf.Tensor | None:
    """Return `funrec.models.penalty.penalty` of the whole batch, which has so many rows."""
    parts = [penalty(model, shard.embedded, rows) for shard in shards]
    return None if parts[0] is None else tf.add_n(parts)


def auxiliary_loss(
    model: MultiTaskModel, shards: Sequence[Shard], logits: tf.Tensor, workers: Workers = ALONE
) -> tf.Tensor | None:
    """Return `MultiTaskModel.auxiliary_loss` of the whole batch.

    Raises:
        InputError: If there is one and other workers have rows that it would have to read.
    """
    loss = model.auxiliary_loss(logits, tf.concat([shard.x for shard in shards], axis=-2))
    if loss is not None and workers.count > 1:
        raise InputError("trainer.workers should be 1 for a backbone with a loss of its own, such as gates' balance.")
    return loss


def count_shards(model: MultiTaskModel, asked: int, batch_size: int, workers: Workers = ALONE) -> int:
    """Return how many shards a worker cuts its part of a batch into: one where layers normalise over a whole batch.

    Raises:
        InputError: If they do and there are several workers.
    """
    layers = model._flatten_layers(include_self=False)
    if not any(getattr(layer, "takes_whole_batches", False) for layer in layers):
        return min(asked, batch_size // workers.count)
    if workers.count > 1:
        raise InputError(
            "trainer.workers should be 1 for a network that takes whole batches, such as batch normalisation."
        )
    return 1


def set_threads(config: Mapping[str, Any]) -> None:
    """Give every shard of a run as many threads as there are for it, while TensorFlow has none yet.

    In a process that has used TensorFlow before, its threads stay as they are; that costs time and changes no number.
    """
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or cores())
    shards = shards_of(config)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, threads // shards))
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        log.debug("TensorFlow runs with other threads than trainer.shards=%s asks for: slower, the same table.", shards)


def shards_of(config: Mapping[str, Any]) -> int:
    """Return what `count_shards` will say of a configuration's network, before there is one."""
    model = dict(flatten(config.get("model", {})))
    normalises = any(value is True for key, value in model.items() if key.endswith("batch_normalization"))
    target = model.get("backbone._target_")
    if normalises or (target and resolve(target, Backbone, "model.backbone").takes_whole_batches):
        return 1
    return int(config["trainer"].get("shards", 1))
