"""Uncertainty weighting."""

from __future__ import annotations

import tensorflow as tf

from funrec.schema import Task
from funrec.utils.specs import PositiveNumber
from funrec.weighting.adam import adam_state, adam_step
from funrec.weighting.base import State, Statistics, Weighting


class Uncertainty(Weighting):
    """Weights by learned noise: `sum_t w_t L_t + s_t / 2`, with `s_t = log sigma_t^2`.

    `w_t = exp(-s_t)` for a classification, `exp(-s_t) / 2` for a regression with squared error (Kendall, Gal &
    Cipolla, CVPR 2018, eq. 7 and 10, in the log-variance form of section 3.2). The log variances are learned along with
    the model by an Adam of their own: `ds_t = 1/2 - w_t L_t`. At their fixed point `w_t L_t = 1/2`: every task
    counts alike.

    Args:
        learning_rate: Step of the log variances. The paper learns them with the model's optimizer.
    """

    paper = "Kendall et al., CVPR 2018"

    def __init__(self, learning_rate: PositiveNumber = 0.001) -> None:
        self.learning_rate = learning_rate

    def initial_state(self) -> State:
        return {"log_variances": tf.zeros((len(self.tasks),)), **adam_state(len(self.tasks))}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        factors = tf.constant([0.5 if _is_squared(task) else 1.0 for task in self.tasks])
        weights = factors * tf.exp(-state["log_variances"])
        slope = 0.5 - weights * step.losses
        log_variances, state = adam_step(state["log_variances"], slope, state, self.learning_rate, step.present)
        return weights, {**state, "log_variances": log_variances}


def _is_squared(task: Task) -> bool:
    """Whether a task's loss is the squared error."""
    name = task.loss.get("name") if isinstance(task.loss, dict) else task.loss
    return not task.is_binary and name in (None, "mse")
