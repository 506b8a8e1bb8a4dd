"""From saved scores to named metrics: the one place where a metric gets its name and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funrec.metrics.auc import auc_of_runs, log_loss, pr_auc_of_runs, rmse
from funrec.metrics.calibration import expected_calibration_error, predicted_over_observed, sigmoid
from funrec.metrics.gauc import check_gauc_weight, group_auc
from funrec.metrics.ranking import ndcg_at_k
from funrec.metrics.sorting import Array, UndefinedMetric, sort_runs
from funrec.schema import Task
from funrec.utils.errors import InputError

LEVELS = ("table", "full")
TABLE_PREFIXES = ("auc_", "gauc_", "rmse_", "val_user_")
NO_GROUPS = "no group column"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one split.

    Attributes:
        metrics: Values by metric name.
        absent: Why a metric that one would look for has no value, by metric name.
    """

    metrics: dict[str, float]
    absent: dict[str, str]


def evaluate(
    tasks: Sequence[Task],
    labels: Array,
    scores: Array,
    *,
    masks: Array | None = None,
    groups: Array | None = None,
    conditional: Mapping[str, tuple[Array, str, str]] | None = None,
    gauc_weight: str = "impressions",
    suffix: str = "",
    strict: bool = True,
    split: str = "validation",
    level: str = "full",
    ndcg_k: int = 10,
) -> Evaluation:
    """Compute every metric of a split from its scores.

    For each binary task `auc_`, `gauc_`, `val_user_` (users with both labels), `log_loss_`, and with `level="full"`
    `pr_auc_`, `ratio_` (predicted over observed), `ece_` (10 bins of equal mass) and `ndcg_<k>_`
    (of each user's list); for each regression task `rmse_`;
    `auc_macro` and `gauc_macro`, the unweighted means over binary tasks, absent if any of them is; and with
    `level="full"` `auc_<task>_given_<parent>` for every binary task after a binary parent, and for every conditional
    head: on rows where the parent's label is 1 and both are in their sample space.

    Args:
        tasks: The tasks, in the order of the columns.
        labels: Labels, `float32 (rows, tasks)`.
        scores: Logits of binary tasks and values of regression tasks, `float32 (rows, tasks)`.
        masks: Whether a row is in a task's sample space, `bool (rows, tasks)`; none if every row is in each.
        groups: The user of every row, `(rows,)`; none where the data has no group column.
        conditional: Scores of conditional heads, by the head's name: `(scores (rows,), parent's name, task's name)`.
            A pair without such a head is scored by the task's own scores.
        gauc_weight: See `funrec.metrics.group_auc`.
        suffix: Ends every name: `@random` for another evaluation split.
        strict: Whether an undefined AUC or RMSE of a task is an error, as it should be on a whole training or
            validation split. Otherwise, as on a slice or an extra split, it is absent with its reason.
        split: What an error message calls the split.
        level: `table` for a quick look at every epoch's end, `full` for all.
        ndcg_k: How much of each user's list the NDCG counts.

    Raises:
        InputError: If strict and a task's labels leave its AUC or RMSE undefined, or the GAUC weight is unknown.
        ValueError: If shapes, names or the level do not fit, a score is NaN, or a binary label is not 0/1.
    """
    _check_arguments(tasks, labels, scores, masks, groups, conditional, level)
    check_gauc_weight(gauc_weight)
    if strict:
        check_labels(tasks, labels, masks, split)
    result = Evaluation({}, {})
    for column, task in enumerate(tasks):
        rows = _rows(masks, column)
        task_labels, task_scores = labels[:, column][rows], scores[:, column][rows]
        if task.kind == "regression":
            _record(result, f"rmse_{task.name}", rmse, task_labels, task_scores)
            continue
        _add_binary(result, task.name, task_labels, task_scores, level)
        task_groups = None if groups is None else groups[rows]
        _add_groups(result, task.name, task_labels, task_scores, task_groups, gauc_weight)
        if level == "full" and task_groups is not None:
            name = f"ndcg_{ndcg_k}_{task.name}"
            _record(result, name, lambda *rows: ndcg_at_k(*rows).value, task_groups, task_labels, task_scores, ndcg_k)
    binary = [task.name for task in tasks if task.kind == "binary"]
    for metric in ("auc", "gauc"):
        _add_macro(result, metric, binary)
    if level == "full":
        _add_conditional(result, tasks, labels, scores, masks, conditional or {})
    return Evaluation(
        {name + suffix: value for name, value in result.metrics.items()},
        {name + suffix: reason for name, reason in result.absent.items()},
    )


def check_labels(tasks: Sequence[Task], labels: Array, masks: Array | None = None, split: str = "validation") -> None:
    """Check that every task can be learned and measured on a split: it has rows, and both labels if it is binary.

    Args:
        tasks: The tasks, in the order of the columns.
        labels: Labels, `float32 (rows, tasks)`.
        masks: Whether a row is in a task's sample space, `bool (rows, tasks)`; none if every row is in each.
        split: What the error message calls the split.

    Raises:
        InputError: If a task has no row, or only one label.
    """
    for column, task in enumerate(tasks):
        column_labels = labels[:, column][_rows(masks, column)]
        metric = "AUC" if task.kind == "binary" else "RMSE"
        if not len(labels):
            found = f"the {split} split has no row"
        elif not column_labels.size:
            found = f"no row of the {split} split is in its sample space"
        elif task.kind == "binary" and (value := _only_label(column_labels)) is not None:
            found = f"every label in the {split} split is {value}"
        else:
            continue
        raise InputError(
            f"tasks.{task.name}: {found}, so its {metric} is undefined. Widen dataset.split or drop the task."
        )


def is_table_metric(name: str) -> bool:
    """Whether a metric stands in the default table: AUC, GAUC, RMSE and valid users, on whatever split."""
    base = name.partition("@")[0]
    return base.startswith(TABLE_PREFIXES) and "_given_" not in base


def table_columns(metrics: Iterable[str]) -> list[str]:
    """Return the names among `metrics` that stand in the default table, by name, and then by split."""
    return sorted(filter(is_table_metric, metrics), key=lambda name: name.partition("@"))


def _rows(masks: Array | None, column: int) -> Array | slice:
    return slice(None) if masks is None or masks[:, column].all() else masks[:, column]


def _only_label(labels: Array) -> int | None:
    positives = int(np.count_nonzero(labels == 1))
    if 0 < positives < labels.size:
        return None
    return 1 if positives else 0


def _record(result: Evaluation, name: str, metric: Callable[..., float], *arguments: Any) -> None:
    """Put a metric of the arguments among the values, or the reason why it has none among the absent."""
    try:
        result.metrics[name] = metric(*arguments)
    except UndefinedMetric as undefined:
        result.absent[name] = undefined.reason


def _add_binary(result: Evaluation, name: str, labels: Array, logits: Array, level: str) -> None:
    runs = sort_runs(labels, logits)
    _record(result, f"auc_{name}", auc_of_runs, runs)
    _record(result, f"log_loss_{name}", log_loss, labels, logits)
    if level == "full":
        probabilities = sigmoid(logits)
        _record(result, f"pr_auc_{name}", pr_auc_of_runs, runs)
        _record(result, f"ratio_{name}", predicted_over_observed, labels, probabilities)
        _record(result, f"ece_{name}", expected_calibration_error, labels, probabilities)


def _add_groups(result: Evaluation, name: str, labels: Array, scores: Array, groups: Array | None, weight: str) -> None:
    if groups is None:
        result.absent[f"gauc_{name}"] = result.absent[f"val_user_{name}"] = NO_GROUPS
        return
    try:
        mean = group_auc(groups, labels, scores, weight)
    except UndefinedMetric as undefined:
        result.absent[f"gauc_{name}"] = undefined.reason
        result.metrics[f"val_user_{name}"] = 0
    else:
        result.metrics[f"gauc_{name}"] = mean.value
        result.metrics[f"val_user_{name}"] = mean.groups


def _add_macro(result: Evaluation, metric: str, binary: Sequence[str]) -> None:
    names = [f"{metric}_{name}" for name in binary]
    missing = [name for name in names if name not in result.metrics]
    if not names:
        result.absent[f"{metric}_macro"] = "no binary task"
    elif not missing:
        result.metrics[f"{metric}_macro"] = float(np.mean([result.metrics[name] for name in names]))
    else:
        reason = result.absent[missing[0]]
        result.absent[f"{metric}_macro"] = reason if reason == NO_GROUPS else f"no {missing[0]}: {reason}"


def _add_conditional(
    result: Evaluation,
    tasks: Sequence[Task],
    labels: Array,
    scores: Array,
    masks: Array | None,
    conditional: Mapping[str, tuple[Array, str, str]],
) -> None:
    columns = {task.name: column for column, task in enumerate(tasks) if task.kind == "binary"}
    pairs = {
        (task.after, task.name): scores[:, columns[task.name]]
        for task in tasks
        if task.name in columns and task.after in columns
    }
    pairs |= {(parent, task): head for head, parent, task in conditional.values()}
    for (parent, task), pair_scores in pairs.items():
        given, target = columns[parent], columns[task]
        rows = labels[:, given] == 1
        if masks is not None:
            rows &= masks[:, given] & masks[:, target]
        runs = sort_runs(labels[rows, target], pair_scores[rows])
        _record(result, f"auc_{task}_given_{parent}", auc_of_runs, runs)


def _check_arguments(
    tasks: Sequence[Task],
    labels: Array,
    scores: Array,
    masks: Array | None,
    groups: Array | None,
    conditional: Mapping[str, tuple[Array, str, str]] | None,
    level: str,
) -> None:
    if level not in LEVELS:
        raise ValueError(f"level should be one of {', '.join(LEVELS)}. Received: {level}.")
    shape = (len(labels), len(tasks))
    for name, matrix in (("labels", labels), ("scores", scores), ("masks", masks)):
        if matrix is not None and matrix.shape != shape:
            raise ValueError(f"{name} should be of shape (rows, tasks) = {shape}. Received: {matrix.shape}.")
    if groups is not None and groups.shape != shape[:1]:
        raise ValueError(f"groups should be of shape (rows,) = {shape[:1]}. Received: {groups.shape}.")
    binary = [task.name for task in tasks if task.kind == "binary"]
    for name, (head, *pair) in (conditional or {}).items():
        if not set(pair) <= set(binary):
            raise ValueError(f"conditional head {name} should name two of the binary tasks {binary}. Received: {pair}.")
        if head.shape != shape[:1]:
            raise ValueError(f"conditional head {name} should be of shape {shape[:1]}. Received: {head.shape}.")
