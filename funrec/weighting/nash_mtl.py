"""Nash-MTL: the bargaining solution."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import Inherited, NotNegative
from funrec.weighting.gramian import GramianWeighting

ITERATIONS = 100
TOLERANCE = 1e-9
LARGEST = 1e5


class NashMTL(GramianWeighting):
    """The direction that tasks with equal say would agree on: `G w = 1 / w`, `w > 0`.

    Navon et al., ICML 2022, claim 3.1. It minimises the convex `w' G w / 2 - sum(log w)`, which damped Newton steps
    do to rounding, where the authors approximate by a sequence of programs. As in their code the Gramian is taken
    over its norm, and the direction is no longer than `max_norm`. A task without a gradient has no say, and an even
    weight, which only its own parameters feel. Where the gradients cancel there is no agreement, and the step's
    weights are even.

    Args:
        max_norm: Longest direction; 0 for no limit.
    """

    paper = "Navon et al., ICML 2022"

    def __init__(self, max_norm: NotNegative = 1.0, **gramian: Inherited) -> None:
        super().__init__(**gramian)
        self.max_norm = max_norm

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        scaled = tf.math.divide_no_nan(gramian, tf.norm(gramian))
        diagonal = tf.linalg.diag_part(scaled)
        has_say = tf.cast(diagonal > 1e-14, scaled.dtype)
        # A task without a gradient bargains alone, so that the system stays regular.
        scaled = scaled * has_say[:, None] * has_say[None, :] + tf.linalg.diag(1 - has_say)
        weights = has_say * bargain(scaled)
        if self.max_norm:
            norm = tf.sqrt(tf.maximum(tf.reduce_sum(weights * tf.linalg.matvec(gramian, weights)), 0))
            weights *= tf.where(norm > self.max_norm, self.max_norm / norm, 1)
        even = 1 / tf.cast(tf.size(tasks), scaled.dtype)
        return tf.where(tf.reduce_any(has_say > 0), tf.where(has_say > 0, weights, even), float("nan"))


def bargain(gramian: tf.Tensor) -> tf.Tensor:
    """Return the `w > 0` with `G w = 1 / w`, NaN where none is found; float64 `(tasks, tasks)`, a positive diagonal."""

    def decrement(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # In the scale of the weights the Hessian is W G W + I: regular however small or large they are.
        slope = weights * tf.linalg.matvec(gramian, weights) - 1
        hessian = weights[:, None] * gramian * weights[None, :] + tf.eye(tf.size(weights), dtype=gramian.dtype)
        step = tf.linalg.solve(hessian, slope[:, None])[:, 0]
        return step, tf.sqrt(tf.maximum(tf.reduce_sum(slope * step), 0))

    def improve(iteration: tf.Tensor, weights: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        step, size = decrement(weights)
        length = tf.where(size > 0.25, 1 / (1 + size), 1)  # the damping under which a self-concordant function falls
        return iteration + 1, weights * (1 - length * step), size

    start = tf.math.rsqrt(tf.linalg.diag_part(gramian))
    _, weights, size = tf.while_loop(
        # Where gradients cancel the weights grow without end, until the system is no longer regular.
        lambda iteration, weights, size: (
            (iteration < ITERATIONS) & (size > TOLERANCE) & (tf.reduce_max(weights / start) < LARGEST)
        ),
        improve,
        (0, start, tf.constant(1.0, gramian.dtype)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([])),
    )
    return tf.where(size <= TOLERANCE, weights, float("nan"))
