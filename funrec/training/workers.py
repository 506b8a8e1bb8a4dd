"""Processes that train one model together, each a part of every batch, with TensorFlow's collectives.

Every worker has the whole model and all labels. It computes the logits of its own rows and receives the others', so
that losses, masks, groups and weightings are those of the whole batch. Gradients are taken for its own rows and summed
over the workers, those of embeddings by the rows looked up, never as dense tables; then all take the same step.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from funrec.models.layers.randomness import current_sites, random_sites
from funrec.utils.errors import InputError
from funrec.utils.machine import CLUSTER


class Workers:
    """One process that trains alone."""

    count, index = 1, 0

    def part(self, rows: int) -> slice:
        """Return which rows of a batch are this worker's.

        Raises:
            InputError: If workers do not divide the batch.
        """
        if rows % self.count:
            raise InputError(
                f"trainer.batch_size should be a multiple of trainer.workers. Received: {rows} rows for {self.count} "
                "workers."
            )
        size = rows // self.count
        return slice(self.index * size, (self.index + 1) * size)

    def sum(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the sum over the workers of every gradient, dense or `tf.IndexedSlices`."""
        return list(gradients)

    def join(self, logits: tf.Tensor) -> tf.Tensor:
        """Return the whole batch's logits from this worker's, `(towers, rows)`; gradients reach the latter alone."""
        return logits

    @contextmanager
    def drawing_apart(self) -> Iterator[None]:
        """Let layers draw what no other worker draws."""
        yield

    def tell(self, value: float) -> float:
        """Return the first worker's value."""
        return value

    def check_agreement(self, facts: Mapping[str, str]) -> None:
        """Raise `InputError` if workers differ in one of `facts`, such as the code they run."""


ALONE = Workers()


class Cluster(Workers):
    """This process among others that `TF_CONFIG` names."""

    def __init__(self) -> None:
        ring = tf.distribute.experimental.CommunicationImplementation.RING
        options = tf.distribute.experimental.CommunicationOptions(implementation=ring)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self.count = self._strategy.num_replicas_in_sync
        self.index = int(json.loads(os.environ[CLUSTER])["task"]["index"])

    def sum(self, gradients: Sequence[Any]) -> list[Any]:
        dense = [gradient for gradient in gradients if not isinstance(gradient, tf.IndexedSlices)]
        # One message for all of them: what a message costs is mostly its latency.
        total = self._strategy.run(
            _all_reduce, (tf.concat([tf.reshape(gradient, [-1]) for gradient in dense], axis=0),)
        )
        parts = iter(tf.split(total, [gradient.shape.num_elements() for gradient in dense]))
        return [
            self._gather_rows(gradient)
            if isinstance(gradient, tf.IndexedSlices)
            else tf.reshape(next(parts), gradient.shape)
            for gradient in gradients
        ]

    def _gather_rows(self, gradient: tf.IndexedSlices) -> tf.IndexedSlices:
        # A collective has one shape for good; rows are not merged before they are sent for the same reason.
        if gradient.values.shape[0] is None:
            raise InputError("trainer.workers should be 1 for sequences, whose lengths differ from batch to batch.")
        rows = tf.bitcast(gradient.indices, tf.float32)[:, None]  # int32, in one message with the values
        everyone = self._strategy.run(_all_gather, (tf.concat([gradient.values, rows], axis=1), 0))
        return tf.IndexedSlices(everyone[:, :-1], tf.bitcast(everyone[:, -1], tf.int32), gradient.dense_shape)

    def join(self, logits: tf.Tensor) -> tf.Tensor:
        everyone = self._strategy.run(_all_gather, (tf.stop_gradient(logits), 1))
        size = logits.shape[1]
        own = slice(self.index * size, (self.index + 1) * size)
        return tf.concat([everyone[:, : own.start], logits, everyone[:, own.stop :]], axis=1)

    @contextmanager
    def drawing_apart(self) -> Iterator[None]:
        sites = current_sites()
        with random_sites((sites.seed + 7_368_787 * (1 + self.index)) % 2**31, sites.step):
            yield

    def tell(self, value: float) -> float:
        return float(self._gather([value if self.index == 0 else 0.0])[0, 0])

    def check_agreement(self, facts: Mapping[str, str]) -> None:
        codes = [int(hashlib.sha256(fact.encode()).hexdigest()[:8], 16) for fact in facts.values()]
        everyone = self._gather([float(code) for code in codes])
        for name, column in zip(facts, everyone.T, strict=True):
            if (column != column[0]).any():
                others = ", ".join(str(place) for place in np.flatnonzero(column != column[0]))
                raise InputError(f"All workers should have the same {name}. Received: another at worker {others}.")

    def _gather(self, values: Sequence[float]) -> np.ndarray:
        """Return every worker's values, float64 `(workers, values)`."""

        @tf.function
        def gather() -> tf.Tensor:
            return self._strategy.run(_all_gather, (tf.constant([values], tf.float64), 0))

        return np.asarray(gather())


def _all_reduce(values: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))


def _all_gather(values: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_gather(tf.identity(values), axis)


@lru_cache(maxsize=1)
def join_workers(count: int) -> Workers:
    """Return the `count` workers that this process is one of: those that `TF_CONFIG` names.

    A run of one worker does not read it: batch systems set it for jobs of one process too. TensorFlow wants this to be
    called before its first operation.

    Raises:
        InputError: If it names another number of them.
    """
    if count == 1:
        return ALONE
    workers = Cluster()
    if workers.count != count:
        raise InputError(f"trainer.workers should be as many as {CLUSTER} has. Received: {count} and {workers.count}.")
    return workers
