"""ESCM2, doubly robust: the loss of unclicked rows is imputed by a tower of its own, and corrected on clicks."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.funnels.escm2_ips import ESCM2IPS, Step, mean


class ESCM2DR(ESCM2IPS):
    """Every step has a second tower, which imputes the step's log loss `e` for rows without a click.

        risk = mean(i + o / p (e - i)) + mean(o / p (e - i)^2),     i = softplus(imputation's logit)

    Wang et al., SIGIR 2022. The first mean is the loss on all exposures if either `p` or `i` is right; the second
    teaches `i`. A step's tower has the gradient of `ESCM2IPS`, since `i` is a tower of its own: the two differ in what
    the imputation does to the representation that they share.
    """

    further_tower = "{head}_loss"

    def risk(self, step: Step) -> tf.Tensor:
        imputed = tf.nn.softplus(step.further)
        weight = step.clicked / tf.maximum(step.propensity, self.least_propensity)
        corrected = mean(imputed + weight * (step.error - imputed), step.known)
        return corrected + mean(weight * tf.square(tf.stop_gradient(step.error) - imputed), step.known)
