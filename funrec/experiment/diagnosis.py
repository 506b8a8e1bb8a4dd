"""Warnings: what looks wrong with a run, by its validation scores and its data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from funrec.data.arrays import PreparedData
from funrec.experiment.evaluation import Scored
from funrec.metrics.diagnosis import Finding, find_problems
from funrec.metrics.heads import HeadByLabel, Rows, auc_of_codes, auc_of_numbers, head_by_label

if TYPE_CHECKING:
    pass

log = logging.getLogger("funrec")

#: A feature most of whose validation values training never saw says little.
MOST_UNKNOWN = 0.5
#: A feature that ranks a label so well by itself has seen it. Only tasks ranked as well are searched for one.
GIVES_AWAY = 0.95


def diagnose(data: PreparedData, scored: Sequence[Scored], more: Sequence[Finding] = ()) -> dict[str, Any]:
    """Look for mistakes in a run's validation scores and data; warn of each, and of those found elsewhere, in one line.

    Returns:
        The record's `diagnosis`: `split`, `tasks`, `auc` (heads by labels), `gain` and `gain_error` (how much better
        than the label's own head), `units`, and `findings`, each with `kind`, `subjects` and `message`.
    """
    valid = next(split for split in scored if split.name == "valid")
    rows = _rows(data, valid)
    matrix = head_by_label(rows)
    findings = _name_leaks(data, rows, matrix, find_problems(rows, matrix))
    findings += [*_unknown_values(data), *more]
    for finding in findings:
        log.warning("Warning: %s", finding.message)
    return {
        "split": valid.name,
        "tasks": matrix.tasks,
        "auc": matrix.auc,
        "gain": matrix.gain,
        "gain_error": matrix.gain_error,
        "units": matrix.units,
        "findings": [asdict(finding) for finding in findings],
    }


def _name_leaks(data: PreparedData, rows: Rows, matrix: HeadByLabel, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, with the feature that gives a well ranked label away by itself, where one does."""
    found = list(findings)
    for place, task in enumerate(matrix.tasks):
        if not matrix.auc[place, place] >= GIVES_AWAY:
            continue
        feature, value = _best_alone(data, rows, next(i for i, each in enumerate(data.tasks) if each.name == task))
        if value < GIVES_AWAY:
            continue
        told = f"{feature} alone ranks {task} with an AUC of {value:.4f}"
        for index, finding in enumerate(found):
            if finding.kind == "too_good" and finding.subjects == (task,):
                message = f"{finding.message} {told}: dataset.drop=[{feature}] leaves it out."
                found[index] = replace(finding, message=message)
                break
        else:
            message = (
                f"{told}. Check whether it is known before {task} happens; dataset.drop=[{feature}] leaves it out."
            )
            found.append(Finding("leak", (task, feature), message))
    return found


def _best_alone(data: PreparedData, rows: Rows, task: int) -> tuple[str, float]:
    """Return the feature that ranks a task's validation labels best by itself, and its AUC."""
    train, valid = data.splits["train"], data.splits["valid"]
    known = np.arange(len(train)) if train.masks is None else np.flatnonzero(train.masks[:, task])
    picked = rows.of_task(task)
    train_labels, labels = np.asarray(train.labels[known, task]), rows.labels[picked, task]
    best, value = "", 0.0
    for place, name in enumerate(data.layout.id_features):
        alone = auc_of_codes(train.ids[known, place], train_labels, valid.ids[picked, place], labels)
        best, value = max((best, value), (name, alone), key=lambda pair: pair[1])
    for place, name in enumerate(data.layout.numeric_features):
        alone = auc_of_numbers(valid.numeric[picked, place], labels)
        best, value = max((best, value), (name, alone), key=lambda pair: pair[1])
    return best, value


def _unknown_values(data: PreparedData) -> Iterator[Finding]:
    for feature, rate in data.statistics["splits"]["valid"]["oov_rate"].items():
        if rate is not None and rate > MOST_UNKNOWN:
            yield Finding(
                "out_of_vocabulary",
                (feature,),
                f"{rate:.0%} of the validation values of {feature} were not in the training split. Check "
                f"dataset.features.{feature}.min_count and the split; hash_buckets or dataset.drop=[{feature}] may "
                "serve better.",
            )


def _rows(data: PreparedData, split: Scored) -> Rows:
    holders = {"user": split.rows.groups, "item": split.rows.items}
    return Rows(
        data.tasks,
        np.asarray(split.rows.labels),
        split.matrix(data.tasks),
        None if split.rows.masks is None else np.asarray(split.rows.masks),
        {name: np.asarray(codes) for name, codes in holders.items() if codes is not None},
        {"user": data.group_keys, "item": data.item_keys},
        split.uncalibrated,
    )
