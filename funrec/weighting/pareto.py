"""PE-LTR: Pareto-efficient weights with lower bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import tensorflow as tf

from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import Inherited, NotNegative, worded
from funrec.weighting.base import by_task
from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.programs import minimise_on_simplex

LowerBounds = Annotated[NotNegative | dict[str, NotNegative], worded("a number of at least 0, or one by task")]


class Pareto(GramianWeighting):
    """The shortest weighted gradient among weights with lower bounds: `min |sum_t w_t g_t|^2`, `w >= c`, `sum(w) = 1`.

    Lin et al., RecSys 2019 (PE-LTR), eq. 5. Solved exactly, over all sets of tasks, where the paper's algorithm 2
    relaxes the program and then takes the nearest weights that keep the bounds.

    Args:
        lower_bounds: The paper's `c`: a number for all tasks, or one by task (0 for a task left out).

    Raises:
        InputError: If a name is no task's, or the bounds sum past 1.
    """

    paper = "Lin et al., RecSys 2019"
    tries_every_set = True

    def __init__(self, lower_bounds: LowerBounds = 0.1, **gramian: Inherited) -> None:
        super().__init__(**gramian)
        self.lower_bounds = lower_bounds

    def configure(self, tasks: Sequence[Task]) -> None:
        super().configure(tasks)
        if isinstance(self.lower_bounds, Mapping):
            self.bounds = by_task("lower_bounds", self.lower_bounds, tasks, 0.0)
        else:
            self.bounds = [self.lower_bounds] * len(tasks)
        if sum(self.bounds) > 1 + 1e-9:
            raise InputError(
                f"weighting.lower_bounds should sum to at most 1. Received: {sum(self.bounds):g}, "
                f"over {len(tasks)} tasks."
            )

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        bounds = tf.gather(tf.constant(self.bounds, tf.float64), tasks)
        left = tf.maximum(1 - tf.reduce_sum(bounds), 0)
        return bounds + minimise_on_simplex(gramian, left, tf.linalg.matvec(gramian, bounds))
