"""UPGrad: every gradient made to conflict with none, then averaged."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from funrec.schema import Task
from funrec.weighting.gramian import GramianWeighting, Shared
from funrec.weighting.programs import check_task_count, minimise_above


class UPGrad(GramianWeighting):
    """The mean of the gradients' projections onto the cone of directions that conflict with no task.

    `w = 1/T sum_i argmin_{v >= e_i} v' G v` (Quinton & Rey, 2024, "Jacobian descent for multi-objective optimization",
    definition of UPGrad and proposition 1). No task's gradient has a negative product with the direction. Solved
    exactly, over all sets of tasks. Parameters of one task follow that task's loss, unweighted, as in the paper's
    multi-task setting.

    Args:
        shared: Over what gradients are taken.

    Raises:
        InputError: If there are too many tasks.
    """

    paper = "Quinton & Rey, 2024"
    weighs_task_parameters = False

    def __init__(self, shared: Shared = "all_shared") -> None:
        super().__init__(shared)

    def configure(self, tasks: Sequence[Task]) -> None:
        super().configure(tasks)
        check_task_count("upgrad", len(tasks))

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        count = tf.shape(gramian)[0]
        return tf.reduce_mean(minimise_above(gramian, tf.eye(count, dtype=gramian.dtype)), axis=0)
