"""What a diagnosis measures: every head's scores against every task's labels, and what a feature alone ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from funrec.metrics.auc import ClusteredAUC, auc
from funrec.metrics.base import Sample
from funrec.metrics.sorting import Array
from funrec.schema import Task

#: Standard errors beyond which a finding is no accident.
NOISE = 4.0
#: Fewer users than this have no standard error to speak of: rules that need one stay silent.
FEWEST_UNITS = 30
#: Another head must rank a task's labels better by this much AUC before its own head is reported: by less, one may
#: simply have learned more than the other.
LEAST_MARGIN = 0.02
#: Of heads that rank each other's labels better: tasks that are much alike (clicks and long views) cost a swapped head
#: little, and two heads that learned too little do not do each other's work.
LEAST_MARGIN_EACH_WAY = 0.005


@dataclass(frozen=True)
class HeadByLabel:
    """Every head's scores against every task's labels; binary tasks only.

    Attributes:
        tasks: Names, of rows (heads) and columns (labels) alike.
        auc: AUC of head `i` on the labels of task `j`, over that task's sample space, `(tasks, tasks)`; NaN where
            undefined.
        gain: By how much head `i` ranks the labels of `j` better than the head of `j` does, `(tasks, tasks)`.
        gain_error: Standard error of `gain`, users being the sampling unit.
        own_error: Standard error of every head's own AUC, `(tasks,)`.
        units: Users behind each column; rows where there is no group column.
    """

    tasks: tuple[str, ...]
    auc: Array
    gain: Array
    gain_error: Array
    own_error: Array
    units: Array

    def better_heads(self, margin: float = LEAST_MARGIN) -> dict[int, int]:
        """Return, by task, the head of another that ranks its labels best, where its own is beaten beyond noise."""
        better = {}
        for label in range(len(self.tasks)):
            beyond = self.gain[:, label] > np.maximum(NOISE * self.gain_error[:, label], margin)
            beyond[label] = False
            if beyond.any() and self.units[label] >= FEWEST_UNITS:
                better[label] = int(np.argmax(np.where(beyond, self.auc[:, label], -np.inf)))
        return better


@dataclass(frozen=True)
class Rows:
    """The rows of one split with their scores.

    Attributes:
        tasks: The tasks, in the order of the columns.
        labels: `float32 (rows, tasks)`.
        scores: Logits of binary tasks, values of others, `(rows, tasks)`.
        masks: Whether a row is in a task's sample space, `bool (rows, tasks)`; None if every row is in each.
        holders: Codes from 0 of every row's `user` and `item`, `(rows,)`, where the data has them.
        names: The raw value of every such code.
        uncalibrated: Tasks whose scores rank and are no logits.
    """

    tasks: Sequence[Task]
    labels: Array
    scores: Array
    masks: Array | None = None
    holders: Mapping[str, Array] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    uncalibrated: Collection[str] = ()

    def of_task(self, column: int) -> Array:
        """Return the places of the rows in a task's sample space."""
        return np.arange(len(self.labels)) if self.masks is None else np.flatnonzero(self.masks[:, column])

    def units(self, rows: Array) -> tuple[Array, int]:
        """Return the sampling unit of rows, and the number of codes: users, or rows where there is no group column."""
        users = self.holders.get("user")
        if users is None:
            return np.arange(rows.size), rows.size
        return users[rows], int(users.max(initial=-1)) + 1

    def binary(self) -> list[int]:
        """Return the columns of binary tasks."""
        return [column for column, task in enumerate(self.tasks) if task.is_binary]


def head_by_label(rows: Rows) -> HeadByLabel:
    """Score every head against every task's labels.

    A column compares heads on the same labels and the same rows, so that it does not matter that one task is easier to
    rank than another, or that a like also tells a click. Differences are paired by user.
    """
    columns = rows.binary()
    size = len(columns)
    values, gain, error = (np.full((size, size), np.nan) for _ in range(3))
    own_error, units = np.full(size, np.nan), np.zeros(size, np.int64)
    for place, label in enumerate(columns):
        picked = rows.of_task(label)
        positive = rows.labels[picked, label] == 1
        statistic = ClusteredAUC(Sample(positive, *rows.units(picked), has_groups="user" in rows.holders))
        units[place] = statistic.count
        if not statistic.is_defined:
            continue
        own, influence = statistic.influence(rows.scores[picked, label])
        own_error[place] = np.linalg.norm(influence)
        for other, head in enumerate(columns):
            value, its = (own, influence) if head == label else statistic.influence(rows.scores[picked, head])
            values[other, place], gain[other, place] = value, value - own
            error[other, place] = np.linalg.norm(its - influence)
    return HeadByLabel(tuple(rows.tasks[column].name for column in columns), values, gain, error, own_error, units)


def auc_of_codes(train_codes: Array, train_labels: Array, codes: Array, labels: Array) -> float:
    """Return the AUC of a categorical feature alone: every code scores its rate of positives in training.

    Rates are drawn to the overall one by one row's worth, so that a code seen once is no certainty.
    """
    size = int(max(train_codes.max(initial=0), codes.max(initial=0))) + 1
    rows = np.bincount(train_codes, minlength=size)
    positives = np.bincount(train_codes, weights=train_labels, minlength=size)
    rate = float(train_labels.mean()) if train_labels.size else 0.0
    return auc(labels, ((positives + rate) / (rows + 1))[codes])


def auc_of_numbers(numbers: Array, labels: Array) -> float:
    """Return the AUC of a numeric feature alone, be it high or low where the label is 1; rows as above."""
    value = auc(labels, numbers)
    return max(value, 1 - value)
