"""Products and mixtures of probabilities, kept as logarithms of both sides.

Both `p` and `1 - p` of a product or a mixture are sums of products of the parts' two sides, with no subtraction
anywhere: `1 - ab = (1 - a) + a (1 - b)`. So the smaller side keeps its digits, however small; the other, whose
logarithm is near 0, is then found from it. Every gradient is a share, between 0 and 1, of what comes in.
"""

from __future__ import annotations

import math

import tensorflow as tf

from funrec.models.funnels.base import LogProbability

LOG_HALF = -math.log(2.0)


def log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return `log(exp(first) + exp(second))`, elementwise."""
    return tf.reduce_logsumexp(tf.stack([first, second]), axis=0)


def log_complement(log_p: tf.Tensor) -> tf.Tensor:
    """Return `log(1 - p)` from `log p` for `p` up to a half; for a larger one, that of a half."""
    return tf.math.log1p(-tf.exp(tf.minimum(log_p, LOG_HALF)))


def chain(parent: LogProbability, conditional: LogProbability) -> LogProbability:
    """Return `P(parent and child)` from `P(parent)` and `P(child | parent)`."""
    log_p = parent.log_p + conditional.log_p
    return _with_all_digits(log_p, log_add(parent.log_not_p, parent.log_p + conditional.log_not_p))


def mixture(choice: LogProbability, if_true: LogProbability, if_false: LogProbability) -> LogProbability:
    """Return `c a + (1 - c) b`."""
    return _with_all_digits(
        log_add(choice.log_p + if_true.log_p, choice.log_not_p + if_false.log_p),
        log_add(choice.log_p + if_true.log_not_p, choice.log_not_p + if_false.log_not_p),
    )


def _with_all_digits(log_p: tf.Tensor, log_not_p: tf.Tensor) -> LogProbability:
    """Find the larger side from the smaller: a sum that comes near 1 has lost what its logarithm would show."""
    return LogProbability(
        tf.where(log_not_p < LOG_HALF, log_complement(log_not_p), log_p),
        tf.where(log_p < LOG_HALF, log_complement(log_p), log_not_p),
    )
