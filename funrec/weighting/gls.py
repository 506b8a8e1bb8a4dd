"""Geometric loss strategy."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.base import State, Statistics, Weighting


class GeometricLoss(Weighting):
    """Descends the geometric mean of the losses, `L = (prod_t L_t)^(1/T)`: `w_t = L / (T L_t)`.

    Chennupati et al., CVPR Workshops 2019 (MultiNet++); the weights are its derivative by `L_t`. It does not
    depend on the losses' scales. Inactive tasks are left out of the mean.
    """

    paper = "Chennupati et al., CVPR Workshops 2019"

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        present = tf.cast(step.present, tf.float32)
        count = tf.maximum(tf.reduce_sum(present), 1.0)
        logs = tf.math.log(tf.maximum(step.losses, 1e-12))
        mean = tf.exp(tf.reduce_sum(present * logs) / count)
        return present * mean / (count * tf.exp(logs)), state
