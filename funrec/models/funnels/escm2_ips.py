"""ESCM2 by inverse propensities: ESMM, and the conversion's own loss on clicks, weighted by one over their chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import tensorflow as tf

from funrec.models.funnels.base import LogProbability, from_logit
from funrec.models.funnels.esmm import ESMM, head_name
from funrec.schema import Task
from funrec.utils.specs import NotNegative, between


class Step(NamedTuple):
    """What is known of a step of the funnel in a batch; all are `(batch,)`.

    Attributes:
        error: Its log loss by the rows' labels; of use where `clicked`.
        probability: Its probability.
        clicked: Label of the task before.
        propensity: Predicted probability of the task before.
        known: The rows' weights, 0 where a label is unknown.
        further: Logit of its second tower; None where it has none.
    """

    error: tf.Tensor
    probability: LogProbability
    clicked: tf.Tensor
    propensity: tf.Tensor
    known: tf.Tensor
    further: tf.Tensor | None


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
    reads_labels = True

    #: The name of a second tower of every step, made from that of its conditional head; empty where it has none.
    further_tower = ""
    #: Where its logit starts, as a multiple of where the step's own does.
    further_start = 0.0

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

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        further = [self.further_tower.format(head=head_name(task)) for task in tasks if task.after]
        return (*super().name_towers(tasks), *(further if self.further_tower else ()))

    def tower_parents(self) -> tuple[int | None, ...]:
        own = super().tower_parents()
        return (*own, *(own[place] for place, _ in self.steps if self.further_tower))

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        own = super().initial_logits(rates)
        return [*own, *(self.further_start * own[place] for place, _ in self.steps if self.further_tower)]

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
            clicked, label, probability = labels[:, parent], labels[:, place], from_logit(logits[place])
            propensity = tf.stop_gradient(tf.exp(probabilities[str(task.after)].log_p))
            error = -(label * probability.log_p + (1.0 - label) * probability.log_not_p)
            known = tf.ones_like(label) if weights is None else weights[:, place] * tf.sign(weights[:, parent])
            further = logits[len(self.tasks) + number] if self.further_tower else None
            found = Step(error, probability, clicked, propensity, known, further)
            losses[task.name] = self.cvr_weight * self.risk(found)
        return losses

    def risk(self, step: Step) -> tf.Tensor:
        """Return the mean loss of a step over all exposures, a scalar, estimated from those with a click."""
        return mean(step.clicked / tf.maximum(step.propensity, self.least_propensity) * step.error, step.known)


def mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted mean of `(batch,)`; 0 where no row has weight."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
