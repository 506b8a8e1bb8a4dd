"""Dual-balancing multi-task learning, with averaged norms."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import Rate
from funrec.weighting.base import State, active_tasks
from funrec.weighting.gramian import GramianWeighting, Shared, gradient_norms

SMALLEST_LOSS = 1e-8


class DBMTL(GramianWeighting):
    """Logarithms of the losses, their gradients brought to the largest norm: `w_t = max(n) / (n_t L_t)`.

    `n_t` is the norm of the gradient of `log L_t` (Lin et al., 2023, "Dual-balancing for multi-task learning",
    algorithm 1). A variant: the paper keeps a moving average of every task's gradient and takes that average's norm
    and direction, which would need a copy of the shared parameters per task; here the norms themselves are averaged
    and the direction is this step's. Averaged norms do not shrink by noise as the norm of an average does. Parameters
    of one task follow the logarithm of that task's loss, unweighted, as in the authors' code.

    Args:
        decay: How much of a norm's average stays from step to step; 0 for this step's norms.
        shared: Over what gradients are taken.
    """

    paper = "Lin et al., 2023 (variant: averages norms, not gradients)"

    def __init__(self, decay: Rate = 0.9, shared: Shared = "all_shared") -> None:
        super().__init__(shared)
        self.decay = decay

    def initial_state(self) -> State:
        tasks = len(self.tasks)
        return {**super().initial_state(), "norm_sums": tf.zeros((tasks,)), "norm_counts": tf.zeros((tasks,))}

    def weights(
        self,
        losses: tf.Tensor,
        gramian: tf.Tensor | None,
        state: State,
        key: tf.Tensor,
        active: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, State]:
        present = active_tasks(losses, active)
        losses = tf.maximum(losses, SMALLEST_LOSS)
        sums = tf.where(present, self.decay * state["norm_sums"] + gradient_norms(gramian) / losses, state["norm_sums"])
        counts = tf.where(present, self.decay * state["norm_counts"] + 1, state["norm_counts"])
        norms = tf.where(present, tf.math.divide_no_nan(sums, counts), 0.0)
        weights = tf.math.divide_no_nan(tf.reduce_max(norms), norms * losses)
        return weights, {**state, "norm_sums": sums, "norm_counts": counts}

    def own_weights(self, weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        return 1 / tf.maximum(losses, SMALLEST_LOSS)
