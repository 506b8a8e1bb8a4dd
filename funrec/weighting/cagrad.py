"""Conflict-averse gradient descent."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import Inherited, Rate
from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.programs import (
    add_ridge,
    best_candidate,
    enumerate_supports,
    onto_simplex_by_clipping,
    quadratic,
)

#: Norms of `g_w` below this, over the root mean square of the gradients' norms, count as 0.
STATIONARY = 1e-4


class CAGrad(GramianWeighting):
    """The direction near the mean gradient that serves the worst-off task best.

    `d = g_0 + c |g_0| / |g_w| g_w`, where `g_0` is the mean gradient, `g_w = sum_t w_t g_t`, and `w` on the simplex
    minimises `g_w' g_0 + c |g_0| |g_w|` (Liu et al., NeurIPS 2021, eq. 3 and algorithm 1, without rescaling). Where
    `g_w` vanishes no direction helps all tasks, and `d = g_0`. Solved exactly, over all sets of tasks: with `b = G
    1/T` and `rho = c |g_0|`, on a set of members `G w = r (lambda 1 - b)`, where `r = |g_w| / rho` and `lambda` solve
    a quadratic equation.

    Args:
        c: Radius around the mean gradient, in its norms, at least 0 (the mean gradient) and below 1.
    """

    paper = "Liu et al., NeurIPS 2021"
    weighs_task_parameters = False  # as in the authors' code
    tries_every_set = True

    def __init__(self, c: Rate = 0.5, **gramian: Inherited) -> None:
        super().__init__(**gramian)
        self.c = c

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        gramian = add_ridge(gramian)
        even = tf.ones_like(gramian[0]) / tf.cast(tf.shape(gramian)[0], gramian.dtype)
        slope = tf.linalg.matvec(gramian, even)
        radius = self.c * tf.sqrt(tf.reduce_sum(even * slope))
        masks, systems = enumerate_supports(gramian)
        ones, shift = tf.unstack(tf.linalg.solve(systems, tf.stack([masks, masks * slope], axis=-1)), axis=-1)
        a, b, c = (tf.reduce_sum(values, -1, keepdims=True) for values in (ones, shift, masks * slope * shift))
        root = tf.sqrt(tf.maximum(b * b - a * (c - radius**2), 0))
        candidates = tf.math.divide_no_nan((b + root) / a * ones - shift, root)
        candidates = onto_simplex_by_clipping(candidates, masks, 1.0)
        norms = tf.sqrt(quadratic(candidates, gramian))
        values = tf.linalg.matvec(candidates, slope) + radius * norms
        weights, norm = best_candidate(candidates, values), best_candidate(norms, values)
        return even + tf.where(norm > STATIONARY, radius / norm, 0.0) * weights
