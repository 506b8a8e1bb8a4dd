"""From scores to metrics and saved predictions: one scoring path for every number a run reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.slicing import cut
from funrec.metrics import Evaluation, Metric, TaskRows, evaluate
from funrec.metrics.base import GroupMean, sigmoid
from funrec.metrics.calibration import reliability_bins
from funrec.metrics.gauc import GAUC
from funrec.runs import record
from funrec.schema import Task

if TYPE_CHECKING:
    import polars as pl

#: Splits by how the table marks them; any other split is `@<name>`.
SUFFIXES = {"valid": ""}
RELIABILITY_BINS = 15


class Scored(NamedTuple):
    """A split with its scores: `scores[head]` is float32 `(rows,)`; those of `uncalibrated` tasks are no log odds."""

    name: str
    rows: SplitArrays
    scores: dict[str, np.ndarray]
    uncalibrated: Collection[str] = ()

    def matrix(self, tasks: Sequence[Task]) -> np.ndarray:
        """Return the tasks' scores side by side, `float32 (rows, tasks)`."""
        return np.stack([self.scores[task.name] for task in tasks], axis=1)


def measure_validation(
    tasks: Sequence[Task],
    rows: SplitArrays,
    scores: dict[str, np.ndarray],
    metrics: Sequence[Metric],
    uncalibrated: Collection[str] = (),
) -> dict[str, float]:
    """Return the metrics that an epoch ends with; `rmse_macro`, their mean, where every task is regression."""
    values = _evaluate(tasks, Scored("valid", rows, scores, uncalibrated), metrics, level="table").metrics
    if not any(task.is_binary for task in tasks):
        values["rmse_macro"] = float(np.mean([values[f"rmse_{task.name}"] for task in tasks]))
    return values


def validation_metrics(tasks: Sequence[Task], has_groups: bool, metrics: Sequence[Metric]) -> list[str]:
    """Return the names of what `measure_validation` gives."""
    measured = [metric for metric in metrics if metric.each_epoch and (has_groups or not metric.needs_groups)]
    names = [f"{metric.name}_{task.name}" for metric in measured for task in tasks if metric.kind in task.kinds]
    if not any(task.is_binary for task in tasks):
        return [*names, "rmse_macro"]
    return names + [f"{metric.name}_macro" for metric in measured if metric.has_macro]


def evaluate_scored(tasks: Sequence[Task], scored: Sequence[Scored], metrics: Sequence[Metric]) -> Evaluation:
    """Return every metric of every evaluation split; those of the validation split carry no suffix."""
    result = Evaluation({}, {})
    for split in scored:
        evaluation = _evaluate(tasks, split, metrics, level="full")
        result.metrics.update(evaluation.metrics)
        result.absent.update(evaluation.absent)
    return result


def describe_group_means(tasks: Sequence[Task], scored: Sequence[Scored], metrics: Sequence[Metric]) -> list[str]:
    """Return a line for every mean over users beside GAUC: over which users of the validation split, and how many."""
    rows = next(split.rows for split in scored if split.name == "valid")
    if rows.groups is None:
        return []
    lines = []
    for metric in metrics:
        if not isinstance(metric, GroupMean) or isinstance(metric, GAUC):
            continue
        counts = []
        for column, task in enumerate(tasks):
            if metric.kind in task.kinds:
                inside = slice(None) if rows.masks is None else np.asarray(rows.masks[:, column])
                labels, groups = np.asarray(rows.labels[:, column])[inside], np.asarray(rows.groups)[inside]
                unscored = TaskRows(labels, np.zeros(labels.size, np.float32), groups)
                counts.append(f"{metric.entries(unscored).values.size:,} for {task.name}")
        if counts:
            lines.append(f"{metric.name} is a mean over {metric.counted}: {', '.join(counts)}.")
    return lines


def evaluate_oracle(
    tasks: Sequence[Task], scored: Sequence[Scored], metrics: Sequence[Metric]
) -> dict[str, float] | None:
    """Return the metrics of the true probabilities, where the dataset knows them: what no model can beat."""
    known = [split for split in scored if split.rows.oracle is not None]
    if not known:
        return None
    values: dict[str, float] = {}
    for split in known:
        probabilities = np.asarray(split.rows.oracle, np.float64)
        columns = [i for i in range(len(tasks)) if not np.isnan(probabilities[:, i]).any()]
        binary = [tasks[i] for i in columns]
        clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
        scores = {
            tasks[i].name: np.log(clipped[:, i] / (1 - clipped[:, i]))
            if tasks[i].kind == "binary"
            else probabilities[:, i]
            for i in columns
        }
        values |= _evaluate(binary, split._replace(scores=scores, uncalibrated=()), metrics, "table", columns).metrics
        if len(columns) < len(tasks):
            values = {name: value for name, value in values.items() if not name.partition("@")[0].endswith("_macro")}
    return values


def measure_slices(
    data: PreparedData,
    scored: Sequence[Scored],
    metrics: Sequence[Metric],
    columns: Mapping[str, Mapping[str, pl.Series]],
) -> list[dict[str, Any]]:
    """Return the table's metrics on every slice of every evaluation split that has rows: the record's `slices`.

    A row has `split`, `slice`, `value`, `rows`, `metrics`, and `absent` with the reason for a metric that has no value.
    """
    found = []
    for split in scored:
        scores = split.matrix(data.tasks)
        of_split = {name: values[split.name] for name, values in columns.items() if split.name in values}
        for part in cut(data, split.rows, of_split):
            places = np.flatnonzero(part.rows)
            if not places.size:
                continue
            evaluation = evaluate(
                data.tasks,
                np.asarray(split.rows.labels[places]),
                scores[places],
                masks=None if split.rows.masks is None else np.asarray(split.rows.masks[places]),
                groups=None if split.rows.groups is None else np.asarray(split.rows.groups[places]),
                uncalibrated=split.uncalibrated,
                metrics=metrics,
                strict=False,
                level="table",
            )
            found.append(
                {
                    "split": split.name,
                    "slice": part.name,
                    "value": part.value,
                    "rows": places.size,
                    "metrics": evaluation.metrics,
                    "absent": evaluation.absent,
                }
            )
    return found


def measure_reliability(data: PreparedData, scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Return every binary task's reliability bins: the record's `reliability`, by `<task>` and `<task>@<split>`."""
    found = {}
    for split in scored:
        for column, task in enumerate(data.tasks):
            labels, logits = np.asarray(split.rows.labels[:, column]), split.scores[task.name]
            if split.rows.masks is not None:
                inside = np.asarray(split.rows.masks[:, column])
                labels, logits = labels[inside], logits[inside]
            if task.is_binary and labels.size and task.name not in split.uncalibrated:
                bins = reliability_bins(labels, sigmoid(logits), RELIABILITY_BINS)
                found[f"{task.name}{SUFFIXES.get(split.name, f'@{split.name}')}"] = asdict(bins)
    return found


def write_scored(folder: Path, data: PreparedData, scored: Sequence[Scored]) -> None:
    """Save every evaluation row's place, group, item, labels (NaN where masked) and scores."""
    splits = [name for split in scored for name in [split.name] * len(split.rows)]
    columns: dict[str, Any] = {
        "split": np.asarray(splits),
        "row": np.concatenate([split.rows.rows for split in scored]),
    }
    if data.group_keys is not None:
        columns["group"] = _take_keys(data.group_keys, [split.rows.groups for split in scored])
    if data.item_keys is not None:
        columns["item"] = _take_keys(data.item_keys, [split.rows.items for split in scored])
    for place, task in enumerate(data.tasks):
        labels = []
        for split in scored:
            column = np.asarray(split.rows.labels[:, place])
            labels.append(column if split.rows.masks is None else np.where(split.rows.masks[:, place], column, np.nan))
        columns[f"label_{task.name}"] = np.concatenate(labels)
    for head in scored[0].scores:
        columns[f"score_{head}"] = np.concatenate([split.scores[head] for split in scored])
    record.write_predictions(folder, columns)


def _take_keys(keys: pl.Series, codes: Sequence[np.ndarray | None]) -> Any:
    return keys.gather(np.concatenate([code for code in codes if code is not None]).astype(np.int64))


def _evaluate(
    tasks: Sequence[Task],
    split: Scored,
    metrics: Sequence[Metric],
    level: Literal["table", "full"],
    columns: Sequence[int] | None = None,
) -> Evaluation:
    rows = split.rows
    pick: Any = slice(None) if columns is None else list(columns)
    return evaluate(
        tasks,
        np.asarray(rows.labels[:, pick]),
        split.matrix(tasks),
        masks=None if rows.masks is None else np.asarray(rows.masks[:, pick]),
        groups=None if rows.groups is None else np.asarray(rows.groups),
        conditional=split.scores,
        uncalibrated=split.uncalibrated,
        metrics=metrics,
        suffix=SUFFIXES.get(split.name, f"@{split.name}"),
        strict=split.name == "valid",
        level=level,
    )
