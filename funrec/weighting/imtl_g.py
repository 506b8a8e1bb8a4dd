"""Impartial multi-task learning, the gradient part."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.gramian import GramianWeighting, Shared, decompose, gradient_norms


class IMTLG(GramianWeighting):
    """The direction with equal projections on all tasks' unit gradients: `w ~ G^+ n`, `n_t = |g_t|`, `sum(w) = 1`.

    Liu et al., ICLR 2021, eq. 3-4; the pseudo-inverse `G^+` extends it to linearly dependent gradients. Weights can
    be negative. Where they cannot sum to 1 the step's are even. The paper takes gradients at the representation.
    """

    paper = "Liu et al., ICLR 2021"
    weighs_task_parameters = False  # as in the paper

    def __init__(self, shared: Shared = "representation") -> None:
        super().__init__(shared)

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        values, vectors, is_positive = decompose(gramian)
        inverse = tf.where(is_positive, 1 / tf.where(is_positive, values, 1), 0)
        raw = tf.linalg.matvec(vectors, inverse * tf.linalg.matvec(vectors, gradient_norms(gramian), transpose_a=True))
        total = tf.reduce_sum(raw)
        return tf.where(tf.abs(total) > 1e-9 * tf.reduce_sum(tf.abs(raw)), raw / total, float("nan"))
