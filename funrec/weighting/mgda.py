"""Multiple-gradient descent."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.gramian import GramianWeighting, Shared
from funrec.weighting.programs import minimise_on_simplex


class MGDA(GramianWeighting):
    """The shortest vector in the convex hull of the gradients: `min w' G w` on the simplex.

    Sener & Koltun, NeurIPS 2018, eq. 3, taken at the representation as in their upper bound, MGDA-UB (eq. 5). No task's
    gradient has a negative product with the direction. Solved exactly, over all sets of tasks, instead of by
    Frank-Wolfe.
    """

    paper = "Sener & Koltun, NeurIPS 2018"
    weighs_task_parameters = False  # as in the paper's algorithm 1
    tries_every_set = True

    def __init__(self, shared: Shared = "representation") -> None:
        super().__init__(shared)

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        return minimise_on_simplex(gramian)
