"""ESCM2, doubly robust: the loss of unclicked rows is imputed by a tower of its own, and corrected on clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from funrec.models.funnels.base import LogProbability
from funrec.models.funnels.escm2_ips import ESCM2IPS, mean
from funrec.models.funnels.esmm import head_name
from funrec.schema import Task


class ESCM2DR(ESCM2IPS):
    """Every step has a second tower, which imputes the step's log loss `e` for rows without a click.

        risk = mean(i + o / p (e - i)) + mean(o / p (e - i)^2),     i = softplus(imputation's logit)

    Wang et al., SIGIR 2022. The first mean is the loss on all exposures if either `p` or `i` is right; the second
    teaches `i`. A step's tower has the gradient of `ESCM2IPS`, since `i` is a tower of its own: the two differ in what
    the imputation does to the representation that they share.
    """

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        own = super().name_towers(tasks)
        return (*own, *(f"{head_name(task)}_loss" for task in tasks if task.after))

    def tower_parents(self) -> tuple[int | None, ...]:
        own = super().tower_parents()
        return (*own, *(own[place] for place, _ in self.steps))

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        return [*super().initial_logits(rates), *(0.0 for _ in self.steps)]

    def risk(
        self,
        error: tf.Tensor,
        step: LogProbability,
        clicked: tf.Tensor,
        propensity: tf.Tensor,
        known: tf.Tensor,
        further: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        imputed = tf.nn.softplus(further[0])
        weight = clicked / tf.maximum(propensity, self.least_propensity)
        difference = error - imputed
        return mean(imputed + weight * difference, known) + mean(
            weight * tf.square(tf.stop_gradient(error) - imputed), known
        )
