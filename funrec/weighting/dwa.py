"""Dynamic weight average."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import PositiveNumber
from funrec.weighting.base import State, Statistics, Weighting


class DynamicWeightAverage(Weighting):
    """Weights that follow how slowly each loss falls: `w_i = T * softmax(r_i / temperature)`.

    `r_i = L_i(t-1) / L_i(t-2)`, with mean losses of the last two epochs (Liu, Johns & Davison, CVPR 2019, eq. 7-8).
    Weights stay at 1 for the first two epochs.

    Args:
        temperature: The larger, the more even the weights. The paper uses 2.
    """

    paper = "Liu et al., CVPR 2019"

    def __init__(self, temperature: PositiveNumber = 2.0) -> None:
        self.temperature = temperature

    def initial_state(self) -> State:
        return {name: tf.zeros((len(self.tasks),)) for name in ("last_losses", "losses_before")}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        ratios = state["last_losses"] / tf.where(state["losses_before"] > 0, state["losses_before"], 1.0)
        weights = len(self.tasks) * tf.nn.softmax(ratios / self.temperature)
        has_two_epochs = tf.reduce_any(state["losses_before"] > 0)
        return tf.where(has_two_epochs, weights, tf.ones_like(step.losses)), state

    def end_epoch(self, mean_losses: tf.Tensor, state: State) -> State:
        return {"last_losses": mean_losses, "losses_before": state["last_losses"]}
