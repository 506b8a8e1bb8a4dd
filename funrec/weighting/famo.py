"""Fast adaptive multitask optimization."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import NotNegative, PositiveNumber
from funrec.weighting.adam import adam_state, adam_step
from funrec.weighting.base import State, Statistics, Weighting, active_softmax, active_tasks

SMALLEST_LOSS = 1e-8


class FAMO(Weighting):
    """Balances how fast the losses fall, from the losses before and after each update.

    `w_t = c z_t / L_t`, `z = softmax(xi)`, `c = 1 / sum_t(z_t / L_t)`; after the update
    `xi` descends `J(xi)' (log L - log L_after) + gamma xi`, where `J` is the softmax's Jacobian (Liu et al., NeurIPS
    2023, algorithm 1), by Adam as in the authors' code: a task that fell more than the others loses weight. The losses
    after the update are those of the same batch and the same dropout, one more forward pass.

    Args:
        learning_rate: Step of `xi`, the paper's beta.
        decay: The paper's gamma, which pulls the weights back to even.
    """

    paper = "Liu et al., NeurIPS 2023"
    reads_losses_after = True

    def __init__(self, learning_rate: PositiveNumber = 0.025, decay: NotNegative = 0.01) -> None:
        self.learning_rate = learning_rate
        self.decay = decay

    def initial_state(self) -> State:
        tasks = len(self.tasks)
        return {"xi": tf.zeros((tasks,)), "log_losses": tf.zeros((tasks,)), **adam_state(tasks)}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        losses = tf.maximum(step.losses, SMALLEST_LOSS)
        shares = active_softmax(state["xi"], step.present) / losses
        weights = tf.math.divide_no_nan(shares, tf.reduce_sum(shares))
        return weights, {**state, "log_losses": tf.math.log(losses)}

    def after_step(self, losses: tf.Tensor, state: State, active: tf.Tensor | None = None) -> State:
        present = active_tasks(losses, active)
        shares = active_softmax(state["xi"], present)
        fall = tf.where(present, state["log_losses"] - tf.math.log(tf.maximum(losses, SMALLEST_LOSS)), 0.0)
        gradient = shares * (fall - tf.reduce_sum(shares * fall)) + self.decay * state["xi"]
        xi, state = adam_step(state["xi"], gradient, state, self.learning_rate, present)
        return {**state, "xi": xi}
