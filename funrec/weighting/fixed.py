"""Fixed weights."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import NotNegative
from funrec.weighting.base import State, Statistics, Weighting, by_task


class Fixed(Weighting):
    """Every task's own weight throughout.

    Args:
        weights: A weight by task; `dataset.tasks.<name>.weight` for a task that it leaves out.

    Raises:
        InputError: If a name is no task's, or all weights are 0.
    """

    paper = "weighted sum of losses"

    def __init__(self, weights: dict[str, NotNegative] | None = None) -> None:
        self.chosen = weights or {}

    def configure(self, tasks: Sequence[Task]) -> None:
        super().configure(tasks)
        chosen = by_task("weights", self.chosen, tasks, 0.0)
        self.values = [w if task.name in self.chosen else task.weight for task, w in zip(tasks, chosen, strict=True)]
        if not any(weight > 0 for weight in self.values):
            raise InputError("dataset.tasks.<name>.weight should be positive for at least one task. All are 0.")

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        return tf.constant(self.values, tf.float32), state
