"""What the schemes that read the Gramian have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.weighting.base import State, Statistics, Weighting
from funrec.weighting.programs import MOST_TASKS

#: Over what per-task gradients are taken.
Shared = Literal["representation", "last_shared_layer", "all_shared"]


class GramianWeighting(Weighting):
    """Weights from the inner products of the tasks' gradients over what they share.

    A scheme without memory implements `solve`. It is given the Gramian of the active tasks alone, in float64, and
    returns anything that is not finite where it finds no solution: that step's weights are then even, `1 / tasks`, and
    the state counts it in `fallbacks`, which goes into the history and the record.

    Args:
        shared: Over what the tasks' gradients are taken: `representation`, the deepest tensor that every tower reads;
            `last_shared_layer`, the variables of the last shared layer; `all_shared`, all shared variables and the
            embeddings of the batch.
    """

    needs = "gramian"

    #: Whether it tries every set of tasks, and so takes few of them.
    tries_every_set = False

    def __init__(self, shared: Shared = "all_shared") -> None:
        self.shared = shared

    def configure(self, tasks: Sequence[Task]) -> None:
        super().configure(tasks)
        if self.tries_every_set and len(tasks) > MOST_TASKS:
            raise InputError(
                f"weighting={type(self).__module__.rpartition('.')[2]} tries every set of tasks and takes at most "
                f"{MOST_TASKS} of them. Received: {len(tasks)}."
            )

    def initial_state(self) -> State:
        return {"fallbacks": tf.zeros((), tf.int32)}

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Return the weights of the active tasks, float64 `(active,)`; not finite where there is no solution.

        The Gramian is that of the active tasks, float64 `(active, active)`, and `tasks` says which these are, rising.
        """
        raise NotImplementedError

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        known, active = tf.cast(step.gramian, tf.float64), step.active
        tasks = tf.range(len(self.tasks))
        if active is not None:
            # A batch in which no task is active has nothing to weigh, but solvers want at least one.
            tasks = tf.boolean_mask(tasks, active | ~tf.reduce_any(active))
            known = tf.gather(tf.gather(known, tasks), tasks, axis=1)
        is_finite = tf.reduce_all(tf.math.is_finite(known))
        count = tf.shape(known)[0]
        # Factorisations raise on NaN, and a diverging run should end in its own words.
        solved = self.solve(tf.where(is_finite, known, tf.eye(count, dtype=tf.float64)), tasks, step.key)
        found = is_finite & tf.reduce_all(tf.math.is_finite(solved))
        solved = tf.cast(tf.where(found, solved, 1 / tf.cast(count, tf.float64)), tf.float32)
        if active is not None:
            solved = tf.scatter_nd(tasks[:, None], solved, tf.constant([len(self.tasks)]))
        return solved, {**state, "fallbacks": state["fallbacks"] + tf.cast(~found, tf.int32)}


def gradient_norms(gramian: tf.Tensor) -> tf.Tensor:
    """Return the norms of the tasks' gradients, `(tasks,)`."""
    return tf.sqrt(tf.maximum(tf.linalg.diag_part(gramian), 0.0))


def decompose(gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return a Gramian's eigenvalues `(tasks,)`, rising, its eigenvectors, a column each, and which values are above 0.

    That is by more than the rounding of a Gramian summed in float32.
    """
    values, vectors = tf.linalg.eigh(gramian)
    rounding = 1e-7 * tf.cast(tf.shape(gramian)[0], gramian.dtype) * values[-1]
    return values, vectors, values > rounding
