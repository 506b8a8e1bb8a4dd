"""Independent tasks: every task has a tower of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.schema import Task


class Independent(Funnel):
    """One tower per task, `p_t = sigmoid(z_t)`; a regression task reads its tower as it is."""

    paper = "one head per task"
    mixes_towers = False

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        return tuple(task.name for task in tasks)

    def combine(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        return {task.name: from_logit(logits[tower]) for tower, task in enumerate(self.tasks) if task.is_binary}

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        return [logit(rates[task.name]) if task.is_binary else rates[task.name] for task in self.tasks]


def logit(rate: float) -> float:
    """Return `log(rate / (1 - rate))`, with the rate kept inside (1e-6, 1 - 1e-6)."""
    rate = min(max(rate, 1e-6), 1 - 1e-6)
    return math.log(rate / (1 - rate))
