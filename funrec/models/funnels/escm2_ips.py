"""ESCM2 by inverse propensities: ESMM, and the conversion's own loss on clicks, weighted by one over their chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import tensorflow as tf

from funrec.models.funnels.base import LogProbability, from_logit
from funrec.models.funnels.esmm import ESMM
from funrec.schema import Task
from funrec.utils.specs import NotNegative, between


class ESCM2IPS(ESMM):
    """ESMM with a loss of the step itself: only clicks have its label, so each stands for `1 / P(click)` exposures.

        loss of a task = ESMM's on the product + cvr_weight * mean(o / p * e)

    Wang et al., SIGIR 2022. `o` is the label of the task before, `p` its predicted probability, and `e` the log
    loss of the step. No gradient passes through `p`.

    Args:
        cvr_weight: Weight of the step's loss.
        least_propensity: What `p` is raised to where it is less: the largest weight is one over it.
    """

    paper = "Wang et al., SIGIR 2022"

    def __init__(
        self,
        cvr_weight: NotNegative = 1.0,
        least_propensity: Annotated[float, between(0, 1, strictly=True)] = 0.01,
    ) -> None:
        self.cvr_weight = cvr_weight
        self.least_propensity = least_propensity

    @property
    def steps(self) -> list[tuple[int, Task]]:
        """The tasks after another, with their places."""
        return [(place, task) for place, task in enumerate(self.tasks) if task.after]

    def extra_losses(
        self,
        logits: tf.Tensor,
        probabilities: Mapping[str, LogProbability],
        labels: tf.Tensor,
        weights: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        places = {task.name: place for place, task in enumerate(self.tasks)}
        losses = {}
        for number, (place, task) in enumerate(self.steps):
            parent = places[str(task.after)]
            clicked, label, step = labels[:, parent], labels[:, place], from_logit(logits[place])
            propensity = tf.stop_gradient(tf.exp(probabilities[str(task.after)].log_p))
            error = -(label * step.log_p + (1.0 - label) * step.log_not_p)
            known = tf.ones_like(label) if weights is None else weights[:, place] * tf.sign(weights[:, parent])
            further = [logits[tower] for tower in self._further_towers(number)]
            losses[task.name] = self.cvr_weight * self.risk(error, step, clicked, propensity, known, further)
        return losses

    def risk(
        self,
        error: tf.Tensor,
        step: LogProbability,
        clicked: tf.Tensor,
        propensity: tf.Tensor,
        known: tf.Tensor,
        further: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        """Return the mean loss of a step over all exposures, estimated from those with a click.

        Args:
            error: The step's log loss by the rows' labels, `(batch,)`; of use where `clicked`.
            step: The step's probability.
            clicked: Label of the task before, `(batch,)`.
            propensity: Its predicted probability, likewise.
            known: The rows' weights, 0 where a label is unknown.
            further: Logits of the towers that a step has besides its own.
        """
        return mean(clicked / tf.maximum(propensity, self.least_propensity) * error, known)

    def _further_towers(self, number: int) -> list[int]:
        """Return the places of the further towers of the step of that number."""
        return [len(self.tasks) + number] if len(self.towers) > len(self.tasks) else []


def mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted mean of `(batch,)`; 0 where no row has weight."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
