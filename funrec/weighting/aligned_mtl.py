"""Aligned-MTL: gradients made orthogonal and equally long."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.gramian import GramianWeighting, decompose


class AlignedMTL(GramianWeighting):
    """The mean of the gradients after the nearest change that makes them orthogonal and equally long.

    With `G = V diag(lambda) V'`: `w = sqrt(lambda_min) V diag(lambda^-1/2) V' 1/T`, over the eigenvalues above
    rounding (Senushkin et al., CVPR 2023, algorithm 1). The paper's upper bound takes `shared: representation`.
    """

    paper = "Senushkin et al., CVPR 2023"
    weighs_task_parameters = False  # as in the paper

    def solve(self, gramian: tf.Tensor, tasks: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        values, vectors, is_positive = decompose(gramian)
        even = tf.ones_like(values) / tf.cast(tf.size(values), values.dtype)
        smallest = tf.reduce_min(tf.where(is_positive, values, values[-1]))
        scales = tf.where(is_positive, tf.sqrt(smallest / tf.where(is_positive, values, 1)), 0)
        return tf.linalg.matvec(vectors, scales * tf.linalg.matvec(vectors, even, transpose_a=True))
