"""Whether the labels of a funnel nest: a conversion implies its click."""

from __future__ import annotations

import shlex

from funrec.data.arrays import PreparedData
from funrec.data.datasets.base import Dataset
from funrec.schema import Task
from funrec.utils.errors import InputError


def check_nesting(dataset: Dataset, data: PreparedData, funnel: str) -> None:
    """Check that a funnel may multiply probabilities: labels nest, and are known outside the task before, too.

    Args:
        dataset: What was prepared.
        data: Its arrays, of which every split is looked at.
        funnel: The funnel that asks, for messages.

    Raises:
        InputError: If a positive label stands where that of the task before it is 0, with the number of such rows and
            the label expression that mends it; or a task is masked by the label of the task before it.
    """
    tasks = {task.name: task for task in data.tasks}
    for task in data.tasks:
        if task.after is None:
            continue
        parent = tasks[task.after]
        _check_space(dataset, task, parent, funnel)
        for name in data.splits:
            counts = data.statistics["splits"][name]["nesting"][task.name]
            if counts["violations"]:
                label = f"{_condition(parent)} AND {_condition(task)}".replace('"', '\\"')
                override = shlex.quote(f'dataset.tasks.{task.name}.label="{label}"')
                raise InputError(
                    f"dataset.tasks.{task.name}.label should be 0 wherever {parent.name} is 0, for the funnel "
                    f"{funnel}. "
                    f"Received: {counts['violations']:,} of {counts['positives']:,} positives without {parent.name} "
                    f"in the {name} split. Nest the label: {override}"
                )


def _check_space(dataset: Dataset, task: Task, parent: Task, funnel: str) -> None:
    if task.where is None:
        return
    key = f"dataset.tasks.{task.name}"
    read = set(dataset.parse(f"{key}.where", task.where).columns)
    labels = read & set(dataset.parse(f"dataset.tasks.{parent.name}.label", parent.label).columns)
    if labels:
        raise InputError(
            f"{key}.where should leave rows without {parent.name} in: the funnel {funnel} learns on all exposures. "
            f"Received: {task.where}. Set {key}.where=null."
        )


def _condition(task: Task) -> str:
    return f"{task.label} = 1" if task.label.isidentifier() else f"({task.label})"
