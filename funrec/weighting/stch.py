"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import PositiveNumber
from funrec.weighting.base import State, Statistics, Weighting, active_softmax


class SmoothTchebycheff(Weighting):
    """Descends a smooth maximum of the losses, `L = mu log sum_t exp(L_t / (T mu))`.

    Lin et al., ICML 2024 (definition of the smooth Tchebycheff scalarisation), with the even preference `1/T` and the
    ideal losses at 0; the weights are its derivative, `w_t = softmax(L_t / (T mu))_t / T`.

    Args:
        temperature: The paper's `mu`. At 0.01 the worst task takes nearly all, at 10 all count nearly alike.
    """

    paper = "Lin et al., ICML 2024"

    def __init__(self, temperature: PositiveNumber = 0.1) -> None:
        self.temperature = temperature

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        tasks = len(self.tasks)
        return active_softmax(step.losses / (tasks * self.temperature), step.present) / tasks, state
