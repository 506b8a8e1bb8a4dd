"""From saved scores to named metrics: the one place where a metric gets its column and its rows."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from funrec.config.build import build
from funrec.metrics.auc import AUC, PRAUC
from funrec.metrics.base import MACRO, NO_GROUPS, Metric, TaskRows
from funrec.metrics.calibration import ExpectedCalibrationError, PredictedOverObserved
from funrec.metrics.errors import MAE, RMSE, Bias, LogLoss
from funrec.metrics.gauc import GAUC, ValidUsers
from funrec.metrics.sorting import Array, UndefinedMetric
from funrec.metrics.xauc import XAUC, GroupXAUC
from funrec.schema import Task
from funrec.utils.errors import InputError

NO_PROBABILITIES = "its scores are not log odds"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one split.

    Attributes:
        metrics: Values by metric name.
        absent: Why a metric that one would look for has no value, by metric name.
    """

    metrics: dict[str, float]
    absent: dict[str, str]


def standard_metrics(gauc_weight: str = "impressions") -> list[Metric]:
    """Return what every run measures."""
    return [
        AUC(),
        LogLoss(),
        PRAUC(),
        PredictedOverObserved(),
        ExpectedCalibrationError(),
        GAUC(gauc_weight),
        ValidUsers(),
        RMSE(),
        *map(_of_durations, (MAE(), Bias(), XAUC(), GroupXAUC())),
    ]


def describe_standard_metrics() -> list[tuple[str, str]]:
    """Return the name of every standard metric, with a line that says what it is and of which tasks."""
    described = []
    for metric in standard_metrics():
        what = (inspect.getdoc(type(metric)) or "").splitlines()[0].rstrip(".")
        described.append((metric.name, what if metric.kind == "binary" else f"{what}; {metric.kind} tasks"))
    return described


def _of_durations(metric: Metric) -> Metric:
    metric.kind = "duration"
    return metric


def build_metrics(config: Mapping[str, Any]) -> list[Metric]:
    """Return the standard metrics and those that the key `metrics` of a configuration adds in `extra`.

    A list of `k` gives a metric for each.
    """
    metrics = standard_metrics(config.get("gauc_weight", "impressions"))
    for name, spec in (config.get("extra") or {}).items():
        depths = spec["k"] if isinstance(spec.get("k"), list) else None
        for changes in [{}] if depths is None else [{"k": depth} for depth in depths]:
            metric = build({**spec, **changes}, Metric, f"metrics.extra.{name}")
            metrics = [other for other in metrics if other.kind != "duration" or other.name != metric.name]
            if any(metric.name == other.name for other in metrics):
                raise InputError(f"metrics.extra.{name} should give metrics of different names. Twice: {metric.name}.")
            metrics.append(metric)
    return metrics


def evaluate(
    tasks: Sequence[Task],
    labels: Array,
    scores: Array,
    *,
    metrics: Sequence[Metric] | None = None,
    masks: Array | None = None,
    groups: Array | None = None,
    conditional: Mapping[str, Array] | None = None,
    uncalibrated: Collection[str] = (),
    suffix: str = "",
    strict: bool = True,
    split: str = "validation",
    level: Literal["table", "full"] = "full",
) -> Evaluation:
    """Measure every task of a split by its scores.

    A macro is the unweighted mean over binary tasks, absent if any of them is. With `level="full"`, metrics that ask
    for it are also measured for every binary task after a binary parent: on rows where the parent's label is 1 and both
    are in their sample space.

    Args:
        labels: `float32 (rows, tasks)`.
        scores: Logits of binary tasks and values of regression tasks, `float32 (rows, tasks)`.
        masks: Whether a row is in a task's sample space, `bool (rows, tasks)`; None if every row is in each.
        groups: The user of every row, `(rows,)`; None where the data has no group column.
        conditional: Scores by head, `(rows,)`, for heads such as `is_like_given_is_click`; without one a task's own
            scores count there too.
        uncalibrated: Tasks whose scores rank but are no log odds.
        suffix: Ends every name: `@random` for another evaluation split.
        strict: Whether an undefined AUC or RMSE of a task is an error, as it should be on a whole training or
            validation split. Otherwise, as on a slice or an extra split, it is absent with its reason.
        level: `table` for a quick look at every epoch's end, `full` for all.

    Raises:
        InputError: If strict and a task's labels leave its AUC or RMSE undefined.
        ValueError: If shapes do not fit, a score is NaN, or a binary label is not 0/1.
    """
    _check_shapes(tasks, labels, scores, masks, groups)
    if strict:
        check_labels(tasks, labels, masks, split)
    chosen = [metric for metric in metrics or standard_metrics() if level == "full" or metric.each_epoch]
    result = Evaluation({}, {})
    for column, task in enumerate(tasks):
        picked = _rows(masks, column)
        rows = TaskRows(
            labels[:, column][picked], scores[:, column][picked], None if groups is None else groups[picked]
        )
        for metric in chosen:
            if metric.kind in task.kinds:
                _measure(result, metric, task.name, rows, task.name in uncalibrated)
    binary = [task.name for task in tasks if task.kind == "binary"]
    for metric in chosen:
        if metric.has_macro:
            _add_macro(result, metric.name, binary)
    if level == "full":
        for name, given, target, pair_scores in _pairs(tasks, scores, conditional or {}):
            inside = labels[:, given] == 1
            if masks is not None:
                inside &= masks[:, given] & masks[:, target]
            pair_groups = None if groups is None else groups[inside]
            rows = TaskRows(labels[inside, target], pair_scores[inside], pair_groups)
            for metric in chosen:
                if metric.is_given_parent:
                    _measure(result, metric, name, rows, tasks[target].name in uncalibrated)
    return Evaluation(
        {name + suffix: value for name, value in result.metrics.items()},
        {name + suffix: reason for name, reason in result.absent.items()},
    )


def check_labels(tasks: Sequence[Task], labels: Array, masks: Array | None = None, split: str = "validation") -> None:
    """Check that every task can be learned and measured on a split: it has rows, and both labels if it is binary."""
    for column, task in enumerate(tasks):
        column_labels = labels[:, column][_rows(masks, column)]
        positives = int(np.count_nonzero(column_labels == 1))
        if not len(labels):
            found = f"the {split} split has no row"
        elif not column_labels.size:
            found = f"no row of the {split} split is in its sample space"
        elif task.kind == "binary" and positives in (0, column_labels.size):
            found = f"every label in the {split} split is {int(positives > 0)}"
        else:
            continue
        metric = "AUC" if task.kind == "binary" else "RMSE"
        raise InputError(
            f"tasks.{task.name}: {found}, so its {metric} is undefined. Widen dataset.split or drop the task."
        )


def _rows(masks: Array | None, column: int) -> Array | slice:
    return slice(None) if masks is None or masks[:, column].all() else masks[:, column]


def _measure(result: Evaluation, metric: Metric, target: str, rows: TaskRows, is_uncalibrated: bool) -> None:
    """Put a metric among the values, or the reason why it has none among the absent."""
    column = f"{metric.name}_{target}"
    if metric.needs_groups and rows.groups is None:
        result.absent[column] = NO_GROUPS
    elif metric.needs_probabilities and is_uncalibrated:
        result.absent[column] = NO_PROBABILITIES
    else:
        try:
            result.metrics[column] = metric.value(rows)
        except UndefinedMetric as undefined:
            result.absent[column] = undefined.reason


def _add_macro(result: Evaluation, metric: str, binary: Sequence[str]) -> None:
    names = [f"{metric}_{name}" for name in binary]
    missing = [name for name in names if name not in result.metrics]
    if not names:
        result.absent[f"{metric}_{MACRO}"] = "no binary task"
    elif not missing:
        result.metrics[f"{metric}_{MACRO}"] = float(np.mean([result.metrics[name] for name in names]))
    else:
        reason = result.absent[missing[0]]
        result.absent[f"{metric}_{MACRO}"] = reason if reason == NO_GROUPS else f"no {missing[0]}: {reason}"


def _pairs(
    tasks: Sequence[Task], scores: Array, conditional: Mapping[str, Array]
) -> Iterator[tuple[str, int, int, Array]]:
    """Yield of every binary task after a binary parent `<task>_given_<parent>`, the columns of both, and its scores."""
    columns = {task.name: column for column, task in enumerate(tasks) if task.kind == "binary"}
    for task in tasks:
        if task.name in columns and task.after in columns:
            name, column = f"{task.name}_given_{task.after}", columns[task.name]
            yield name, columns[task.after], column, conditional.get(name, scores[:, column])


def _check_shapes(
    tasks: Sequence[Task],
    labels: Array,
    scores: Array,
    masks: Array | None,
    groups: Array | None,
) -> None:
    shape = (len(labels), len(tasks))
    for name, matrix in (("labels", labels), ("scores", scores), ("masks", masks)):
        if matrix is not None and matrix.shape != shape:
            raise ValueError(f"{name} should be of shape (rows, tasks) = {shape}. Received: {matrix.shape}.")
    if groups is not None and groups.shape != shape[:1]:
        raise ValueError(f"groups should be of shape (rows,) = {shape[:1]}. Received: {groups.shape}.")
