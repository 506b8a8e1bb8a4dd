"""What the schemes that read the Gramian have in common."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from funrec.weighting.base import State, Weighting, active_tasks

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

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def initial_state(self) -> State:
        return {"fallbacks": tf.zeros((), tf.int32)}

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Return the weights of the active tasks, float64 `(active,)`; not finite where there is no solution.

        Args:
            gramian: Of the active tasks, float64 `(active, active)`.
            tasks: Which tasks these are, `(active,)`, rising.
            key: An int32 `(2,)` key for random numbers.
        """
        raise NotImplementedError

    def weights(
        self,
        losses: tf.Tensor,
        gramian: tf.Tensor | None,
        state: State,
        key: tf.Tensor,
        active: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, State]:
        known = tf.cast(gramian, tf.float64)
        tasks = tf.range(len(self.tasks))
        if active is not None:
            # A batch in which no task is active has nothing to weigh, but solvers want at least one.
            tasks = tf.boolean_mask(tasks, active | ~tf.reduce_any(active))
            known = tf.gather(tf.gather(known, tasks), tasks, axis=1)
        is_finite = tf.reduce_all(tf.math.is_finite(known))
        count = tf.shape(known)[0]
        # Factorisations raise on NaN, and a diverging run should end in its own words.
        solved = self.solve(tf.where(is_finite, known, tf.eye(count, dtype=tf.float64)), tasks, key)
        found = is_finite & tf.reduce_all(tf.math.is_finite(solved))
        solved = tf.cast(tf.where(found, solved, 1 / tf.cast(count, tf.float64)), tf.float32)
        if active is not None:
            solved = tf.scatter_nd(tasks[:, None], solved, tf.constant([len(self.tasks)]))
        return solved, {**state, "fallbacks": state["fallbacks"] + tf.cast(~found, tf.int32)}


def gradient_norms(gramian: tf.Tensor) -> tf.Tensor:
    """Return the norms of the tasks' gradients, `(tasks,)`."""
    return tf.sqrt(tf.maximum(tf.linalg.diag_part(gramian), 0.0))


def active_pairs(losses: tf.Tensor, active: tf.Tensor | None) -> tf.Tensor:
    """Return which pairs of different tasks are both active, bool `(tasks, tasks)`."""
    present = active_tasks(losses, active)
    return present[:, None] & present[None, :] & ~tf.eye(losses.shape[0], dtype=tf.bool)
