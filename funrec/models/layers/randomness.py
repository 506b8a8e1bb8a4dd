"""Random numbers that are a function of (seed, step, site): initial weights, and masks of dropout.

Drawing a byte per unit cost a quarter of a training step. Masks are windows into a pool that a seed determines instead,
each at an offset of its own. A unit's fate is as random as before; two masks share bits where their windows meet, at
places that differ from one time to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import tensorflow as tf


class RandomSites:
    """Hands every place that draws random numbers in one step a key of its own.

    A site is the number of draws before it while the step is traced, which the model's code fixes; so a
    draw depends on the seed, the step and the site alone, and a resumed run needs a counter, no generator.
    """

    def __init__(self, seed: int, step: Any) -> None:
        self.seed, self.step = seed, step
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
    return x * _draw_mask(x, rate)


def relu_dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Return `dropout(relu(x))`."""
    return tf.nn.relu(x) * _draw_mask(x, rate)


#: Units in a pool, or a power of two at least twice as large as the mask.
POOL_SIZE = 1 << 21
#: Windows start at multiples of so many units, where TensorFlow need not copy them.
ALIGNMENT = 32


def _draw_mask(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Return a mask for `x`: 0 with probability `rate`, else the factor that keeps the mean."""
    threshold, sites = min(round(rate * 256), 255), current_sites()
    size = x.shape.num_elements()
    if size is None:  # histories of a length that batches differ in
        return tf.reshape(_draw_factors(tf.size(x), threshold, sites.next_key(), x.dtype), tf.shape(x))
    pool_size = max(POOL_SIZE, 2 ** (2 * size - 1).bit_length())
    pool = _draw_pool(sites.seed, pool_size, threshold, x.dtype)
    windows = (pool_size - size) // ALIGNMENT + 1
    start = ALIGNMENT * tf.random.stateless_uniform([], sites.next_key(), maxval=windows, dtype=tf.int32)
    return tf.reshape(tf.slice(pool, [start], [size]), x.shape)


@lru_cache(maxsize=4)
def _draw_pool(seed: int, size: int, threshold: int, dtype: tf.DType) -> tf.Tensor:
    with tf.init_scope():
        return _draw_factors(tf.constant(size), threshold, tf.constant([seed, -2], tf.int32), dtype)


def _draw_factors(size: tf.Tensor, threshold: int, key: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    words = tf.random.stateless_uniform([(size + 3) // 4], key, minval=None, maxval=None, dtype=tf.uint32)
    uniform = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
    keep = uniform >= tf.constant(threshold, tf.uint8)
    return tf.cast(keep, dtype) * tf.cast(256 / (256 - threshold), dtype)
