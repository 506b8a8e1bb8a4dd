"""Dropout at one random byte per unit."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.layers.randomness import current_sites


def dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Zero units with probability `rate`, rounded to 1/256, and scale the rest up by the exact inverse.

    Raises:
        RuntimeError: Outside of `random_sites`.
    """
    keep, scale = _draw_mask(tf.shape(x), rate)
    return x * tf.cast(keep, x.dtype) * tf.cast(scale, x.dtype)


def relu_dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Return `dropout(relu(x))` with one saved tensor: the result is positive just where a gradient flows."""
    keep, scale = _draw_mask(tf.shape(x), rate)
    # Dropped units are made 0 ahead of the rectifier, whose own gradient then stops there. (A `tf.custom_gradient` says
    # so too, but TensorFlow keeps its graph, and with it the model's, for as long as the process lives.)
    kept = x - tf.stop_gradient(tf.where(keep, tf.zeros([], x.dtype), x))
    return tf.nn.relu(kept) * tf.cast(scale, x.dtype)


def _draw_mask(shape: tf.Tensor, rate: float) -> tuple[tf.Tensor, float]:
    threshold = min(round(rate * 256), 255)
    size = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(size + 3) // 4], current_sites().next_key(), minval=None, maxval=None, dtype=tf.uint32
    )
    uniform = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], shape)
    return uniform >= tf.constant(threshold, tf.uint8), 256 / (256 - threshold)
