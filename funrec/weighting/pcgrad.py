"""PCGrad: gradient surgery."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.gramian import GramianWeighting


class PCGrad(GramianWeighting):
    """The sum of the gradients, each without what conflicts with another.

    `g_i' = g_i`; for every other task `j`, in random order: if `g_i' . g_j < 0`, then `g_i' -= (g_i' . g_j) / |g_j|^2
    g_j` (Yu et al., NeurIPS 2020, algorithm 1). Every `g_i'` is a combination of the tasks' gradients whose
    coefficients the Gramian decides, so the sum of them is a weight per task.
    """

    paper = "Yu et al., NeurIPS 2020"
    weighs_task_parameters = False  # the other tasks' gradients there are 0, and nothing conflicts

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        return remove_conflicts(gramian, draw_orders(tf.size(tasks), key))


def draw_orders(tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Return a random order of all tasks for each, int32 `(tasks, tasks)`."""
    draws = tf.random.stateless_uniform(tf.stack([tasks, tasks]), key)
    return tf.argsort(tf.ensure_shape(draws, (None, None)), axis=1)


def remove_conflicts(gramian: tf.Tensor, orders: tf.Tensor) -> tf.Tensor:
    """Return PCGrad's weights `(tasks,)`.

    Args:
        gramian: float64 `(tasks, tasks)`.
        orders: int32 `(tasks, tasks)`; row `i` is the order in which task `i` meets all (itself too, to no effect).
    """
    tasks = tf.shape(gramian)[0]
    lengths = tf.linalg.diag_part(gramian)
    shape = (gramian.shape[0], gramian.shape[0])

    def meet(turn: tf.Tensor, coefficients: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        others = orders[:, turn]
        products = tf.reduce_sum(coefficients * tf.gather(gramian, others), axis=1)
        is_conflict = (products < 0) & (others != tf.range(tasks))
        removed = tf.where(is_conflict, tf.math.divide_no_nan(products, tf.gather(lengths, others)), 0)
        coefficients -= removed[:, None] * tf.one_hot(others, tasks, dtype=gramian.dtype)
        return turn + 1, tf.ensure_shape(coefficients, shape)

    start = tf.ensure_shape(tf.eye(tasks, dtype=gramian.dtype), shape)
    _, coefficients = tf.while_loop(lambda turn, _: turn < tasks, meet, (0, start))
    return tf.reduce_sum(coefficients, axis=0)
