"""DCMT: a second tower for what would not have happened, taught on rows without a click."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.funnels.base import from_logit
from funrec.models.funnels.escm2_ips import ESCM2IPS, Step, mean
from funrec.utils.specs import Inherited, NotNegative


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
    further_tower = "no_{head}"
    further_start = -1.0

    def __init__(self, consistency: NotNegative = 0.1, **propensities: Inherited) -> None:
        super().__init__(**propensities)
        self.consistency = consistency

    def risk(self, step: Step) -> tf.Tensor:
        counterfactual = from_logit(step.further)
        factual = step.clicked / tf.maximum(step.propensity, self.least_propensity)
        other = (1.0 - step.clicked) / tf.maximum(1.0 - step.propensity, self.least_propensity)
        gap = tf.abs(1.0 - tf.exp(step.probability.log_p) - tf.exp(counterfactual.log_p))
        risk = mean(step.error, factual * step.known) + mean(-counterfactual.log_p, other * step.known)
        return risk + self.consistency * mean(gap, step.known)
