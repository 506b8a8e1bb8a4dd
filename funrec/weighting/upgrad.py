"""UPGrad: every gradient made to conflict with none, then averaged."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.programs import minimise_above


class UPGrad(GramianWeighting):
    """The mean of the gradients' projections onto the cone of directions that conflict with no task.

    `w = 1/T sum_i argmin_{v >= e_i} v' G v` (Quinton & Rey, 2024, "Jacobian descent for multi-objective optimization",
    definition of UPGrad and proposition 1). No task's gradient has a negative product with the direction. Solved
    exactly, over all sets of tasks.
    """

    paper = "Quinton & Rey, 2024"
    weighs_task_parameters = False  # as in the paper's multi-task setting
    tries_every_set = True

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        count = tf.shape(gramian)[0]
        return tf.reduce_mean(minimise_above(gramian, tf.eye(count, dtype=gramian.dtype)), axis=0)
