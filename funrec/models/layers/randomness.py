"""Random numbers that are a function of (seed, step, site): initial weights, and dropout at a random byte per unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf


class RandomSites:
    """Hands every place that draws random numbers in one step a key of its own.

    A site is the number of draws before it while the step is traced, which the model's code fixes; so a
    draw depends on the seed, the step and the site alone, and a resumed run needs a counter, no generator.
    """

    def __init__(self, seed: int, step: Any) -> None:
        self._key = tf.stack([tf.constant(seed, tf.int32), tf.cast(step, tf.int32)])
        self._sites = 0

    def next_key(self) -> tf.Tensor:
        """Return the next site's key, an `int32` tensor of shape `(2,)`."""
        self._sites += 1
        # Two Philox keys that differ in one bit give unrelated streams; the factor keeps sites of
        # neighbouring seeds from meeting.
        return self._key + tf.constant([self._sites * 1_000_003, 0], tf.int32)


_sites: ContextVar[RandomSites | None] = ContextVar("random_sites", default=None)


@contextmanager
def random_sites(seed: int, step: Any) -> Iterator[RandomSites]:
    """Give the layers called inside a `RandomSites` to draw from."""
    token = _sites.set(sites := RandomSites(seed, step))
    try:
        yield sites
    finally:
        _sites.reset(token)


def current_sites() -> RandomSites:
    """Return the `RandomSites` in force; `RuntimeError` outside of `random_sites`."""
    sites = _sites.get()
    if sites is None:
        raise RuntimeError("Random numbers are drawn inside `with random_sites(seed, step)` only.")
    return sites


def uniform_initializer(limit: float) -> Any:
    """Return a Keras initializer, uniform on (-limit, limit), that draws from the `RandomSites` in force."""

    def initialize(shape: Any, dtype: Any = None) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, current_sites().next_key(), -limit, limit, tf.float32)

    return initialize


def dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Zero units with probability `rate`, rounded to 1/256, and scale the rest up by the exact inverse."""
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
