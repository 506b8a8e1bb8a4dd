"""Warnings about a run's scores: mistakes such as swapped labels, leaks and heads that learned nothing.

A rule warns only beyond `NOISE` standard errors, with users as the sampling unit. A run has a dozen rules, and ten
tasks have ninety pairs of heads: at two standard errors one rule in forty would warn by chance, at four one in thirty
thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from funrec.metrics.base import sigmoid
from funrec.metrics.heads import FEWEST_UNITS, LEAST_MARGIN_EACH_WAY, NOISE, HeadByLabel, Rows
from funrec.metrics.sorting import Array

TOO_GOOD = 0.99
#: A head whose scores (logits) all lie this close together is constant.
CONSTANT = 1e-3
#: Two heads whose scores correlate at least so well rank alike.
EQUAL = 0.99999
#: Where noise moves an AUC by more than this, an AUC close to 0.5 is not evidence of anything.
TELLING = 0.05
#: Predicted over observed may be off by so much.
OFF_IN_MEAN = 0.1
#: No user or item should hold more than this fraction of a task's positives, once there are at least so many.
MOST, FEWEST_POSITIVES = 0.5, 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that looks wrong.

    Attributes:
        kind: `swapped`, `outranked`, `too_good`, `leak`, `worse_than_chance`, `chance`, `equal_labels`, `equal_scores`,
            `constant`, `concentrated`, `off_in_mean` or `out_of_vocabulary`.
        subjects: The tasks (or features) it is about.
        message: One line: what was seen, and what to check.
    """

    kind: str
    subjects: tuple[str, ...]
    message: str


def find_problems(rows: Rows, matrix: HeadByLabel) -> list[Finding]:
    """Return what looks wrong with the scores; nothing, as a rule."""
    constant = {column for column in rows.binary() if np.ptp(rows.scores[:, column]) <= CONSTANT}
    found = [_constant(rows.tasks[column].name) for column in sorted(constant)]
    found += _equal(rows, constant)
    names = {rows.tasks[column].name for column in constant}
    found += _misplaced(matrix, {place for place, task in enumerate(matrix.tasks) if task in names})
    found += _implausible(matrix, names)
    for column in rows.binary():
        found += _concentrated(rows, column)
        if rows.tasks[column].name not in rows.uncalibrated:
            found += _off_in_mean(rows, column)
    return found


def _constant(task: str) -> Finding:
    return Finding(
        "constant",
        (task,),
        f"the head of {task} gives every row the same score. Check its weight (dataset.tasks.{task}.weight), the "
        "learning rate, and whether its units have died.",
    )


def _equal(rows: Rows, constant: set[int]) -> Iterator[Finding]:
    """Report pairs of tasks with one label, and pairs of heads with one ranking."""
    columns = rows.binary()
    for place, one in enumerate(columns):
        for other in columns[place + 1 :]:
            names = (rows.tasks[one].name, rows.tasks[other].name)
            if np.array_equal(rows.of_task(one), rows.of_task(other)) and np.array_equal(
                rows.labels[:, one], rows.labels[:, other]
            ):
                yield Finding(
                    "equal_labels",
                    names,
                    f"{names[0]} and {names[1]} have the same label in every validation row. Check "
                    f"dataset.tasks.{names[0]}.label and dataset.tasks.{names[1]}.label: one of them is likely a copy.",
                )
            elif not {one, other} & constant and _correlation(rows.scores[:, one], rows.scores[:, other]) >= EQUAL:
                yield Finding(
                    "equal_scores",
                    names,
                    f"the heads of {names[0]} and {names[1]} rank all rows alike. Check that each task has a tower of "
                    "its own, and its weight.",
                )


def _correlation(one: Array, other: Array) -> float:
    one, other = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (one, other))
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _misplaced(matrix: HeadByLabel, constant: set[int]) -> Iterator[Finding]:
    """Report heads whose own labels another head ranks better.

    A cycle of such heads (a's labels are ranked better by b's head, and b's by a's) means that labels or heads are
    swapped. A single one may also have learned too little.
    """
    cycles = _cycles(_without(constant, matrix.better_heads(LEAST_MARGIN_EACH_WAY)))
    better = _without(constant, matrix.better_heads())
    for cycle in cycles:
        names = tuple(matrix.tasks[label] for label in cycle)
        cells = ", ".join(
            f"the labels of {matrix.tasks[label]}: {_auc(matrix.auc[head, label])} by the head of "
            f"{matrix.tasks[head]}, {_auc(matrix.auc[label, label])} by its own"
            for label, head in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
        )
        yield Finding(
            "swapped",
            names,
            f"the heads of {' and '.join(names)} rank each other's labels better than their own (AUC on {cells}). "
            "Check dataset.tasks for labels in each other's place.",
        )
    swapped = {label for cycle in cycles for label in cycle}
    for label, head in better.items():
        if label in swapped:
            continue
        task, other = matrix.tasks[label], matrix.tasks[head]
        yield Finding(
            "outranked",
            (task, other),
            f"the head of {other} ranks the labels of {task} better than its own head does "
            f"(AUC {_auc(matrix.auc[head, label])} against {_auc(matrix.auc[label, label])}). Check "
            f"dataset.tasks.{task}.label; if it is right, {task} has learned too little: "
            "raise its weight or train longer.",
        )


def _without(labels: set[int], better: Mapping[int, int]) -> dict[int, int]:
    return {label: head for label, head in better.items() if label not in labels}


def _cycles(better: Mapping[int, int]) -> list[list[int]]:
    """Return the cycles of a map, each from its lowest number on."""
    cycles = []
    for start in sorted(better):
        path = [start]
        while (step := better.get(path[-1])) is not None and step not in path:
            path.append(step)
        if step == start and start == min(path):
            cycles.append(path)
    return cycles


def _implausible(matrix: HeadByLabel, constant: set[str]) -> Iterator[Finding]:
    for place, task in enumerate(matrix.tasks):
        value = matrix.auc[place, place]
        if task in constant:
            continue
        if value >= TOO_GOOD:
            yield Finding(
                "too_good",
                (task,),
                f"auc_{task} is {_auc(value)}, too good for a ranking of people's choices. Check dataset.features for "
                f"a column that is known only after {task} has happened.",
            )
        elif matrix.units[place] >= FEWEST_UNITS and value + NOISE * matrix.own_error[place] < 0.5:
            yield Finding(
                "worse_than_chance",
                (task,),
                f"auc_{task} is {_auc(value)}, below 0.5 by more than noise. Check dataset.tasks.{task}.label for a "
                "reversed label or another task's, and the split for a change between training and validation.",
            )
        elif matrix.units[place] >= FEWEST_UNITS and value - 0.5 < NOISE * matrix.own_error[place] < TELLING:
            yield Finding(
                "chance",
                (task,),
                f"auc_{task} is {_auc(value)}, no better than chance. Check dataset.tasks.{task}.weight, the "
                f"learning rate, and whether the features know anything of {task}.",
            )


def _concentrated(rows: Rows, column: int) -> Iterator[Finding]:
    picked = rows.of_task(column)
    picked = picked[rows.labels[picked, column] == 1]
    if picked.size < FEWEST_POSITIVES:
        return
    task = rows.tasks[column].name
    for holder, codes in rows.holders.items():
        counts = np.bincount(codes[picked])
        most = int(np.argmax(counts))
        if counts[most] > MOST * picked.size:
            yield Finding(
                "concentrated",
                (task,),
                f"{holder} {rows.names[holder][most]} holds {counts[most] / picked.size:.0%} of the positives of "
                f"{task}. Check for a default or test {holder} in the log; dataset.where leaves it out.",
            )


def _off_in_mean(rows: Rows, column: int) -> Iterator[Finding]:
    """Compare sums of predictions and labels.

    The error of their difference is that over users, or that of independent coin tosses at the predicted chances where
    it is larger: when a rare label has come by less often than expected, users show too little of its noise.
    """
    picked = rows.of_task(column)
    users, codes = rows.units(picked)
    labels, probabilities = rows.labels[picked, column], sigmoid(rows.scores[picked, column])
    if not labels.any() or np.unique(users).size < FEWEST_UNITS:
        return
    excess = np.bincount(users, weights=probabilities - labels, minlength=codes)
    error = np.sqrt(max(float(excess @ excess), float(np.sum(probabilities * (1 - probabilities)))))
    ratio = float(probabilities.sum() / labels.sum(dtype=np.float64))
    if abs(ratio - 1) > OFF_IN_MEAN and abs(float(excess.sum())) > NOISE * error:
        task = rows.tasks[column].name
        yield Finding(
            "off_in_mean",
            (task,),
            f"{task} is predicted {ratio:.2f} times as often as it happens. Check whether its rate differs between "
            "training and validation, and dataset.downsample; ranking metrics are unaffected, probabilities are not.",
        )


def _auc(value: float) -> str:
    return f"{value:.4f}"
