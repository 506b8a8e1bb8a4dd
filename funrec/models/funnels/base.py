"""What a funnel is: how the tasks' probabilities depend on each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from funrec.models.structure import Structure
from funrec.schema import Task


class LogProbability(NamedTuple):
    """A probability in log space, both sides of it, so that neither end loses its digits.

    Attributes:
        log_p: `log p`, float32, any shape.
        log_not_p: `log (1 - p)`, likewise.
    """

    log_p: tf.Tensor
    log_not_p: tf.Tensor

    @property
    def logit(self) -> tf.Tensor:
        return self.log_p - self.log_not_p


class Funnel(ABC):
    """Turns tower logits into the tasks' probabilities."""

    #: Where it is from, for `funrec list models`.
    paper = ""

    #: Whether a positive label must imply that of `task.after`; the data is then checked for it.
    needs_nesting = False
    #: Whether a tower's logit can reach another task's loss than that of its own place.
    mixes_towers = True

    #: Whether `extra_losses` reads labels, which must then be known at once.
    reads_labels = False

    tasks: tuple[Task, ...] = ()
    #: Names of the towers, in the order of their logits; esm2 has four for three tasks.
    towers: tuple[str, ...] = ()

    def configure(self, structure: Structure) -> None:
        """Take the tasks; called once, before the parts that read the towers' names."""
        self.tasks = structure.tasks
        self.towers = self.name_towers(self.tasks)

    @abstractmethod
    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        """Return the names of the towers that `tasks` take, or raise `InputError` if it cannot serve them."""

    @abstractmethod
    def combine(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        """Return every binary task's probability over all exposures, from logits, float32 `(towers, batch)`."""

    def tower_parents(self) -> tuple[int | None, ...]:
        """Return, by tower, which tower comes before it in the funnel; none for a root."""
        place = {task.name: tower for tower, task in enumerate(self.tasks)}
        return tuple(None if task.after is None else place[task.after] for task in self.tasks)

    def conditional(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        """Return the conditional heads, named `<task>_given_<parent>`; none for most funnels."""
        return {}

    def extra_losses(
        self,
        logits: tf.Tensor,
        probabilities: Mapping[str, LogProbability],
        labels: tf.Tensor,
        weights: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        """Return what is added to tasks' losses, scalars by task; nothing for most funnels.

        The probabilities are what `combine` made of the logits, labels and weights are `(batch, tasks)`; a weight is 0
        where a row is outside a task's sample space, and None stands for weights that are all 1.
        """
        return {}

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        """Return where each tower's logit starts, from the tasks' positive rates (means, for regression)."""
        return [0.0 for _ in self.towers]


def from_logit(logit: tf.Tensor) -> LogProbability:
    """Return the two sides of `sigmoid(logit)`."""
    return LogProbability(tf.math.log_sigmoid(logit), tf.math.log_sigmoid(-logit))
