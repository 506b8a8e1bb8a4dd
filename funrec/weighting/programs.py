"""Small quadratic programs, solved exactly: with few tasks, every set of positive weights can be tried.

The solution of such a program is, on the set where it is positive, that of a linear system. So the solvers here solve
the systems of all sets at once, clip what is negative, and keep the best; no iteration, no tolerance, no set-up cost.
Singular Gramians get a ridge of 1e-12 of their mean diagonal, which picks the smallest of all solutions.
"""

from __future__ import annotations

import tensorflow as tf

#: Beyond this, trying all sets (2^T linear systems) is no longer cheap.
MOST_TASKS = 10
RIDGE = 1e-12


def add_ridge(gramian: tf.Tensor) -> tf.Tensor:
    """Return `gramian` over its mean diagonal, with a ridge that makes it regular."""
    tasks = tf.shape(gramian)[0]
    scale = tf.linalg.trace(gramian) / tf.cast(tasks, gramian.dtype)
    return tf.math.divide_no_nan(gramian, scale) + RIDGE * tf.eye(tasks, dtype=gramian.dtype)


def enumerate_supports(gramian: tf.Tensor, with_empty: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Return all sets of tasks, `(sets, tasks)` with 1 for a member, and the matrices of their linear systems.

    These are `(sets, tasks, tasks)`: the Gramian, which is regular, on the members, and the identity elsewhere.
    """
    tasks = tf.shape(gramian)[0]
    codes = tf.range(0 if with_empty else 1, tf.bitwise.left_shift(1, tasks))
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(codes[:, None], tf.range(tasks)), 1)
    masks = tf.cast(bits, gramian.dtype)
    return masks, masks[:, :, None] * masks[:, None, :] * gramian + tf.linalg.diag(1 - masks)


def minimise_on_simplex(
    gramian: tf.Tensor, total: float | tf.Tensor = 1.0, linear: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the `w >= 0` with `sum(w) = total` that minimises `w' G w + 2 b' w`.

    On a set of members, `G w + b = lambda 1`, so `w = lambda G^-1 1 - G^-1 b`, with `lambda` from the sum.
    `b` is `linear`, `(tasks,)`, in the Gramian's units; `G` is float64, positive semi-definite.
    """
    scale = tf.linalg.trace(gramian) / tf.cast(tf.shape(gramian)[0], gramian.dtype)
    gramian = add_ridge(gramian)
    linear = tf.zeros_like(gramian[0]) if linear is None else tf.math.divide_no_nan(linear, scale)
    masks, systems = enumerate_supports(gramian)
    solved = tf.linalg.solve(systems, tf.stack([masks, masks * linear], axis=-1))
    ones, shift = tf.unstack(solved, axis=-1)
    multiplier = (total + tf.reduce_sum(shift, -1, keepdims=True)) / tf.reduce_sum(ones, -1, keepdims=True)
    candidates = onto_simplex_by_clipping(multiplier * ones - shift, masks, total)
    return best_candidate(candidates, quadratic(candidates, gramian) + 2 * tf.linalg.matvec(candidates, linear))


def minimise_above(gramian: tf.Tensor, floors: tf.Tensor) -> tf.Tensor:
    """Return, for every row `u` of `floors`, the `v >= u` that minimises `v' G v`.

    With `v = u + y`: on a set of members `G y = -G u`, elsewhere `y = 0`.
    `floors` is float64 `(problems, tasks)`, `G` positive semi-definite.
    """
    gramian = add_ridge(gramian)
    slopes = tf.linalg.matvec(gramian, floors)  # (problems, tasks); the Gramian is symmetric
    masks, systems = enumerate_supports(gramian, with_empty=True)
    rises = tf.linalg.solve(systems, -masks[:, :, None] * tf.transpose(slopes)[None])  # (sets, tasks, problems)
    rises = tf.maximum(tf.transpose(rises, (2, 0, 1)), 0)  # (problems, sets, tasks)
    values = quadratic(rises, gramian) + 2 * tf.linalg.matvec(rises, slopes)
    best = tf.argmin(_nan_last(values), axis=1)
    return floors + tf.gather(rises, best, axis=1, batch_dims=1)


def onto_simplex_by_clipping(candidates: tf.Tensor, masks: tf.Tensor, total: float | tf.Tensor) -> tf.Tensor:
    """Return `candidates` `(sets, tasks)` without what is negative, scaled to `total`."""
    positive = tf.maximum(candidates, 0)
    sums = tf.reduce_sum(positive, -1, keepdims=True)
    usable = tf.math.is_finite(sums) & (sums > 0)
    even = masks / tf.reduce_sum(masks, -1, keepdims=True)
    return total * tf.where(usable, positive / tf.where(usable, sums, 1), even)


def quadratic(candidates: tf.Tensor, gramian: tf.Tensor) -> tf.Tensor:
    """Return `w' G w` of candidates `(..., tasks)`."""
    return tf.reduce_sum(candidates * tf.linalg.matvec(gramian, candidates), -1)


def best_candidate(candidates: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the candidate of the smallest value; candidates `(sets, tasks)`, values `(sets,)`."""
    return candidates[tf.argmin(_nan_last(values))]


def _nan_last(values: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.math.is_nan(values), tf.constant(float("inf"), values.dtype), values)
