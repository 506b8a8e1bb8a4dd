"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import PositiveNumber
from funrec.weighting.base import State, Weighting, active_softmax, active_tasks


class SmoothTchebycheff(Weighting):
    """Descends a smooth maximum of the losses, `L = mu log sum_t exp(L_t / (T mu))`.

    Lin et al., ICML 2024 (definition of the smooth Tchebycheff scalarisation), with the even preference `1/T` and the
    ideal losses at 0; the weights are its derivative, `w_t = softmax(L_t / (T mu))_t / T`. Task parameters follow the
    weighted loss, as in the paper.

    Args:
        temperature: The paper's `mu`. At 0.01 the worst task takes nearly all, at 10 all count nearly alike.
    """

    paper = "Lin et al., ICML 2024"

    def __init__(self, temperature: PositiveNumber = 0.1) -> None:
        self.temperature = temperature

    def weights(
        self,
        losses: tf.Tensor,
        gramian: tf.Tensor | None,
        state: State,
        key: tf.Tensor,
        active: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, State]:
        tasks = len(self.tasks)
        return active_softmax(losses / (tasks * self.temperature), active_tasks(losses, active)) / tasks, state
