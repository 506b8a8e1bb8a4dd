"""DCMT: a second tower for what would not have happened, taught on rows without a click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import tensorflow as tf

from funrec.models.funnels.base import LogProbability, from_logit
from funrec.models.funnels.escm2_ips import ESCM2IPS, mean
from funrec.models.funnels.esmm import head_name
from funrec.schema import Task
from funrec.utils.specs import NotNegative, between


class DCMT(ESCM2IPS):
    """Every step has a counterfactual tower `c`, the chance of no conversion, taught on rows without a click.

        risk = mean_w(e; w = o / p) + mean_w(-log c; w = (1 - o) / (1 - p)) + consistency mean |1 - (r + c)|

    Zhu et al., ICDE 2023, with self-normalised propensities. `r` is the step's probability and `e` its log loss.
    An exposure without a click has no conversion, so `c` learns 1 there; `consistency` ties `r` to `1 - c` everywhere.
    What is predicted is `r`.

    Args:
        consistency: Weight of how far `r` and `c` are from adding up to 1.
        cvr_weight: Weight of the risk beside ESMM's losses.
        least_propensity: What `p` and `1 - p` are raised to where they are less.
    """

    paper = "Zhu et al., ICDE 2023"

    def __init__(
        self,
        consistency: NotNegative = 0.1,
        cvr_weight: NotNegative = 1.0,
        least_propensity: Annotated[float, between(0, 1, strictly=True)] = 0.01,
    ) -> None:
        super().__init__(cvr_weight, least_propensity)
        self.consistency = consistency

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        own = super().name_towers(tasks)
        return (*own, *(f"no_{head_name(task)}" for task in tasks if task.after))

    def tower_parents(self) -> tuple[int | None, ...]:
        own = super().tower_parents()
        return (*own, *(own[place] for place, _ in self.steps))

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        own = super().initial_logits(rates)
        return [*own, *(-own[place] for place, _ in self.steps)]

    def risk(
        self,
        error: tf.Tensor,
        step: LogProbability,
        clicked: tf.Tensor,
        propensity: tf.Tensor,
        known: tf.Tensor,
        further: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        counterfactual = from_logit(further[0])
        factual = clicked / tf.maximum(propensity, self.least_propensity)
        other = (1.0 - clicked) / tf.maximum(1.0 - propensity, self.least_propensity)
        gap = tf.abs(1.0 - tf.exp(step.log_p) - tf.exp(counterfactual.log_p))
        risk = mean(error, factual * known) + mean(-counterfactual.log_p, other * known)
        return risk + self.consistency * mean(gap, known)
