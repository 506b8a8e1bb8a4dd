"""GradNorm."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import NotNegative, PositiveNumber
from funrec.weighting.adam import adam_state, adam_step
from funrec.weighting.base import State, Statistics
from funrec.weighting.gramian import GramianWeighting, Shared, gradient_norms

SMALLEST_WEIGHT = 1e-3


class GradNorm(GramianWeighting):
    """Learned weights that bring the tasks' gradients to one norm, larger for tasks that train slowly.

    With `n_i = w_i |g_i|`, the inverse training rate `r_i = (L_i / L_i(0)) / mean(L / L(0))` and `L(0)` the losses of
    the first step, the weights descend `sum_i |n_i - mean(n) r_i^alpha|`, the target held constant, and are then
    renormalised to sum to T (Chen et al., ICML 2018, eq. 1-2 and algorithm 1). They have an Adam of their own and
    stay above 0.001. A step uses the weights that the steps before it made, as in the paper.

    Args:
        alpha: The strength with which slow tasks are helped; 0 for equal norms. The paper uses 0.12 to 1.5.
        learning_rate: Step of the weights.
        shared: Over what gradients are taken. The paper takes the last shared layer.
    """

    paper = "Chen et al., ICML 2018"

    def __init__(
        self, alpha: NotNegative = 1.5, learning_rate: PositiveNumber = 0.025, shared: Shared = "last_shared_layer"
    ) -> None:
        super().__init__(shared)
        self.alpha = alpha
        self.learning_rate = learning_rate

    def initial_state(self) -> State:
        tasks = len(self.tasks)
        learned = {"weights": tf.ones((tasks,)), "first_losses": tf.zeros((tasks,))}
        return {**super().initial_state(), **learned, **adam_state(tasks)}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        losses, present = step.losses, step.present
        first = tf.where((state["first_losses"] == 0) & present, losses, state["first_losses"])
        weights, norms = state["weights"], gradient_norms(step.gramian)
        ratios = tf.math.divide_no_nan(losses, first)
        rates = tf.math.divide_no_nan(ratios, active_mean(ratios, present))
        targets = active_mean(weights * norms, present) * tf.pow(rates, self.alpha)
        gradient = tf.sign(weights * norms - targets) * norms
        learned, state = adam_step(weights, gradient, state, self.learning_rate, present)
        learned = tf.maximum(learned, SMALLEST_WEIGHT)
        learned *= len(self.tasks) / tf.reduce_sum(learned)
        return weights, {**state, "weights": learned, "first_losses": first}


def active_mean(values: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Return the mean of `values` `(tasks,)` over the active tasks; 0 if there is none."""
    weights = tf.cast(active, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
