"""Products and mixtures of probabilities, kept as logarithms of both sides.

Both `p` and `1 - p` of a product or a mixture are sums of products of the parts' two sides, with no subtraction
anywhere: `1 - ab = (1 - a) + a (1 - b)`. So neither side loses its digits, however near to 0 or 1 the parts are, and
every gradient is a share between 0 and 1 of what comes in. (`log(1 - exp(log a + log b))` would lose them near 1.)
"""

from __future__ import annotations

import tensorflow as tf

from funrec.models.funnels.base import LogProbability


def log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return `log(exp(first) + exp(second))`, elementwise."""
    return tf.reduce_logsumexp(tf.stack([first, second]), axis=0)


def chain(parent: LogProbability, conditional: LogProbability) -> LogProbability:
    """Return `P(parent and child)` from `P(parent)` and `P(child | parent)`."""
    return LogProbability(
        parent.log_p + conditional.log_p,
        log_add(parent.log_not_p, parent.log_p + conditional.log_not_p),
    )


def mixture(choice: LogProbability, if_true: LogProbability, if_false: LogProbability) -> LogProbability:
    """Return `c a + (1 - c) b`."""
    return LogProbability(
        log_add(choice.log_p + if_true.log_p, choice.log_not_p + if_false.log_p),
        log_add(choice.log_p + if_true.log_not_p, choice.log_not_p + if_false.log_not_p),
    )
