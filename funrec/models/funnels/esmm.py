"""Entire-space multi-task model: a task's probability is a product along its chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.models.funnels.independent import logit
from funrec.models.funnels.log_space import chain
from funrec.schema import Task
from funrec.utils.errors import InputError


class ESMM(Funnel):
    """One tower per step of the funnel, `P(t) = P(t | t') P(t')` with `t'` the task that `t` comes after.

    Ma et al., SIGIR 2018, eq. 1-3, for chains of any length, and for several tasks after one. A tower predicts its
    step, given the one before (pCVR); the loss reads the product (pCTCVR), on all exposures, clicked or not.

    Raises:
        InputError: If no task has an `after`, or a task is a regression.
    """

    paper = "Ma et al., SIGIR 2018"
    needs_nesting = True

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        check_binary(tasks, "esmm")
        if not any(task.after for task in tasks):
            raise InputError(
                "The funnel esmm should know which task comes after which. Received: no `after`. "
                + (
                    f"Say so, dataset.tasks.{tasks[1].name}.after={tasks[0].name}."
                    if len(tasks) > 1
                    else "One task makes no funnel: take model/funnel=independent."
                )
            )
        return tuple(head_name(task) if task.after else task.name for task in tasks)

    def combine(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        steps = {task.name: (task.after, from_logit(logits[tower])) for tower, task in enumerate(self.tasks)}
        combined: dict[str, LogProbability] = {}

        def probability(name: str) -> LogProbability:
            if name not in combined:
                after, step = steps[name]
                combined[name] = step if after is None else chain(probability(after), step)
            return combined[name]

        return {task.name: probability(task.name) for task in self.tasks}

    def conditional(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        return {head_name(task): from_logit(logits[tower]) for tower, task in enumerate(self.tasks) if task.after}

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        return [logit(conditional_rate(rates, task)) for task in self.tasks]


def head_name(task: Task) -> str:
    """Return the name of a task's conditional head."""
    return f"{task.name}_given_{task.after}"


def conditional_rate(rates: Mapping[str, float], task: Task) -> float:
    """Return a task's rate among the positives of the task it comes after."""
    return rates[task.name] if task.after is None else rates[task.name] / max(rates[task.after], 1e-12)


def check_binary(tasks: Sequence[Task], funnel: str) -> None:
    """Raise `InputError` if there is a regression task, which has no probability."""
    for task in tasks:
        if not task.is_binary:
            raise InputError(
                f"dataset.tasks.{task.name}.kind should be binary in the funnel {funnel}. Received: {task.kind}. "
                "Take model/funnel=independent, or make the label a condition."
            )
