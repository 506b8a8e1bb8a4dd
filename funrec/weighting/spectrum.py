"""The Gramian's eigenvalues, and which of them are more than rounding."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Spectrum(NamedTuple):
    """A symmetric matrix `V diag(values) V'`.

    Attributes:
        values: Rising, `(tasks,)`.
        vectors: `V`, `(tasks, tasks)`, a column per eigenvalue.
        is_positive: Which values are more than the rounding of a Gramian summed in float32.
    """

    values: tf.Tensor
    vectors: tf.Tensor
    is_positive: tf.Tensor


def decompose(gramian: tf.Tensor) -> Spectrum:
    """Return the spectrum of a Gramian, float64 `(tasks, tasks)`."""
    values, vectors = tf.linalg.eigh(gramian)
    rounding = 1e-7 * tf.cast(tf.shape(gramian)[0], gramian.dtype) * values[-1]
    return Spectrum(values, vectors, values > rounding)
