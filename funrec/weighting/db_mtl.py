"""Dual-balancing multi-task learning, with averaged norms."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import Inherited, Rate
from funrec.weighting.base import State, Statistics
from funrec.weighting.gramian import GramianWeighting, gradient_norms

SMALLEST_LOSS = 1e-8


class DBMTL(GramianWeighting):
    """Logarithms of the losses, their gradients brought to the largest norm: `w_t = max(n) / (n_t L_t)`.

    `n_t` is the norm of the gradient of `log L_t` (Lin et al., 2023, "Dual-balancing for multi-task learning",
    algorithm 1). A variant: the paper keeps a moving average of every task's gradient and takes that average's norm
    and direction, which would need a copy of the shared parameters per task; here the norms themselves are averaged
    and the direction is this step's. Averaged norms do not shrink by noise as the norm of an average does.

    Args:
        decay: How much of a norm's average stays from step to step; 0 for this step's norms.
    """

    paper = "Lin et al., 2023 (variant: averages norms, not gradients)"

    def __init__(self, decay: Rate = 0.9, **gramian: Inherited) -> None:
        super().__init__(**gramian)
        self.decay = decay

    def initial_state(self) -> State:
        tasks = len(self.tasks)
        return {**super().initial_state(), "norm_sums": tf.zeros((tasks,)), "norm_counts": tf.zeros((tasks,))}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        present, losses = step.present, tf.maximum(step.losses, SMALLEST_LOSS)
        added = gradient_norms(step.gramian) / losses
        sums = tf.where(present, self.decay * state["norm_sums"] + added, state["norm_sums"])
        counts = tf.where(present, self.decay * state["norm_counts"] + 1, state["norm_counts"])
        norms = tf.where(present, tf.math.divide_no_nan(sums, counts), 0.0)
        weights = tf.math.divide_no_nan(tf.reduce_max(norms), norms * losses)
        return weights, {**state, "norm_sums": sums, "norm_counts": counts}

    def own_weights(self, weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        return 1 / tf.maximum(losses, SMALLEST_LOSS)  # the gradient of the logarithm, as in the authors' code
