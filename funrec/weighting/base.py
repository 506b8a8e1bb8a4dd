"""What a weighting is: a small function from one step's statistics to task weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import tensorflow as tf

from funrec.schema import Task

State = dict[str, tf.Tensor]


class Weighting(ABC):
    """Maps what one step knows to the weights of its task losses.

    The step descends `sum_t w_t L_t` with the weights held constant. All state is a dictionary of tensors
    of fixed shape that the loop keeps and checkpoints; a weighting itself keeps none.
    """

    #: Where it is from, for `funrec list weightings`.
    paper = ""
    #: What it reads: `losses` or `gramian`.
    needs = "losses"

    tasks: tuple[Task, ...] = ()

    def configure(self, tasks: Sequence[Task]) -> None:
        """Say which tasks there are; called once, before anything else.

        Raises:
            InputError: If the weighting cannot serve them.
        """
        self.tasks = tuple(tasks)

    def initial_state(self) -> State:
        """Return the state before the first step."""
        return {}

    @abstractmethod
    def weights(
        self, losses: tf.Tensor, gramian: tf.Tensor | None, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        """Return this step's weights, and the state after it.

        Args:
            losses: The tasks' mean losses over their valid rows, float32 `(tasks,)`.
            gramian: `G[i, j] = <grad_i, grad_j>`, float32 `(tasks, tasks)`; none where `needs` is `losses`.
            state: As the last step left it.
            key: An int32 `(2,)` key for random numbers, a function of seed and step.
        """

    def end_epoch(self, mean_losses: tf.Tensor, state: State) -> State:
        """Return the state after an epoch whose mean task losses were `mean_losses`, float32 `(tasks,)`."""
        return state
