"""What a weighting is: a small function from one step's statistics to task weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean

State = dict[str, tf.Tensor]


class Statistics(NamedTuple):
    """What one step knows.

    Attributes:
        losses: The tasks' mean losses over their valid rows, float32 `(tasks,)`.
        key: An int32 `(2,)` key for random numbers, a function of seed and step.
        gramian: `G[i, j] = <grad_i, grad_j>`, float32 `(tasks, tasks)`; None where the weighting `needs` losses alone.
        active: Which tasks have a valid row in the batch, bool `(tasks,)`; None where all have.
    """

    losses: tf.Tensor
    key: tf.Tensor
    gramian: tf.Tensor | None = None
    active: tf.Tensor | None = None

    @property
    def present(self) -> tf.Tensor:
        """Which tasks take part in the step, bool `(tasks,)`."""
        return active_tasks(self.losses, self.active)


class Weighting(ABC):
    """Maps what one step knows to the weights of its task losses.

    The step descends `sum_t w_t L_t` with the weights held constant. All state is a dictionary of tensors
    of fixed shape that the loop keeps and checkpoints; a weighting itself keeps none.

    A task without a valid row in a batch is inactive in that step: its weight is 0 whatever is returned for it,
    and it should influence neither the others' weights nor the state.
    """

    #: Where it is from, for `funrec list weightings`.
    paper = ""
    #: What it reads: `losses` or `gramian`.
    needs = "losses"
    #: Over what the gradients behind the Gramian are taken: `representation`, `last_shared_layer` or `all_shared`.
    shared = "representation"
    #: Whether parameters of one task alone follow their task's weighted loss, as the step does, or its loss as it is.
    weighs_task_parameters = True
    #: Whether `after_step` reads the losses of the same batch after the update, which costs one more forward pass.
    reads_losses_after = False

    tasks: tuple[Task, ...] = ()

    def configure(self, tasks: Sequence[Task]) -> None:
        """Say which tasks there are, or raise `InputError` if it cannot serve them; called before anything else."""
        self.tasks = tuple(tasks)

    def initial_state(self) -> State:
        """Return the state before the first step."""
        return {}

    @abstractmethod
    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        """Return this step's weights, float32 `(tasks,)`, and the state after it, from the state before it."""

    def own_weights(self, weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        """Return what the losses are weighted by for parameters that belong to one task alone, `(tasks,)`.

        Read for schemes that need the Gramian; the others weigh the losses themselves.
        """
        return weights if self.weighs_task_parameters else tf.ones_like(weights)

    def after_step(self, losses: tf.Tensor, state: State, active: tf.Tensor | None = None) -> State:
        """Return the state after the update, from the state that `weights` left; called where `reads_losses_after`.

        The losses `(tasks,)` are those after the update, on the batch it was made from; `active` is as in `Statistics`.
        """
        return state

    def end_epoch(self, mean_losses: tf.Tensor, state: State) -> State:
        """Return the state after an epoch whose mean task losses were `mean_losses`, float32 `(tasks,)`."""
        return state


def active_tasks(losses: tf.Tensor, active: tf.Tensor | None) -> tf.Tensor:
    """Return which tasks take part in a step, bool `(tasks,)`."""
    return tf.ones_like(losses, tf.bool) if active is None else active


def active_softmax(logits: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Return the softmax of `logits` `(tasks,)` among the active tasks; all 0 where none is."""
    shifted = tf.where(active, logits - tf.reduce_max(logits), 0.0)
    powers = tf.where(active, tf.exp(shifted), 0.0)
    return tf.math.divide_no_nan(powers, tf.reduce_sum(powers))


def by_task(key: str, values: Mapping[str, float], tasks: Sequence[Task], default: float) -> list[float]:
    """Return a number per task, in order, `default` for one that `values` leaves out; `InputError` for another name."""
    known = [task.name for task in tasks]
    for name in values:
        if name not in known:
            raise InputError(f"weighting.{key}.{name}: no such task.{did_you_mean(name, known)}")
    return [values.get(name, default) for name in known]
