"""Fixed weights."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from funrec.errors import InputError
from funrec.schema import Task
from funrec.weighting.base import State, Weighting


class Fixed(Weighting):
    """Every task's own weight, `dataset.tasks.<name>.weight`, throughout.

    Raises:
        InputError: If all weights are 0.
    """

    paper = "weighted sum of losses"

    def configure(self, tasks: Sequence[Task]) -> None:
        super().configure(tasks)
        if not any(task.weight > 0 for task in self.tasks):
            raise InputError("dataset.tasks.<name>.weight should be positive for at least one task. All are 0.")

    def weights(
        self, losses: tf.Tensor, gramian: tf.Tensor | None, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        return tf.constant([task.weight for task in self.tasks], tf.float32), state
