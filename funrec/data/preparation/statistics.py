"""What a dataset's rows look like in numbers, and which splits nothing can be learned or said from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from funrec.data.arrays import ModelInputs, SplitArrays
from funrec.data.preparation.staging import ROW
from funrec.schema import Task
from funrec.utils.errors import InputError

ROWS_PER_BATCH = 1 << 20


def measure_split(rows: pl.LazyFrame, split: SplitArrays, inputs: ModelInputs) -> dict[str, Any]:
    """Return a split's numbers as plain values.

    Returns:
        `rows`, `users`, `items` (None without such a column), `time_range`, `tasks` (each with `rows` in its sample
        space and `positive_rate` or `mean`), `nesting` (each nested task with its `parent`, the `rows` where both are
        known, its `positives` and the `violations` where the parent's label is 0), `oov_rate` by feature.
    """
    wanted, columns = {}, rows.collect_schema().names()
    for role in {"group", "item"} & set(columns):
        wanted[role] = pl.col(role).n_unique()
    if "time" in columns:
        wanted |= {"first": pl.col("time").min(), "last": pl.col("time").max()}
    label = {task.name: pl.col(f"label/{task.name}").cast(pl.Float64) for task in inputs.tasks}
    everywhere = pl.col(ROW).is_not_null()
    known = {task.name: everywhere if task.where is None else pl.col(f"where/{task.name}") for task in inputs.tasks}
    for task in inputs.tasks:
        wanted[f"rows/{task.name}"] = known[task.name].sum()
        wanted[f"mean/{task.name}"] = label[task.name].filter(known[task.name]).mean()
        if task.after is not None:
            both = known[task.name] & known[task.after]
            positive = both & (label[task.name] > 0)
            wanted[f"both/{task.name}"] = both.sum()
            wanted[f"positives/{task.name}"] = positive.sum()
            wanted[f"violations/{task.name}"] = (positive & (label[task.after] == 0)).sum()
    found = rows.select(**wanted).collect(engine="streaming").row(0, named=True)
    first, last = (_plain(found.get(key)) for key in ("first", "last"))
    return {
        "rows": len(split),
        "users": found.get("group"),
        "items": found.get("item"),
        "time_range": None if first is None else [first, last],
        "tasks": {
            task.name: {"rows": found[f"rows/{task.name}"], rate_name(task): found[f"mean/{task.name}"]}
            for task in inputs.tasks
        },
        "nesting": {
            task.name: {
                "parent": task.after,
                "rows": found[f"both/{task.name}"],
                "positives": found[f"positives/{task.name}"],
                "violations": found[f"violations/{task.name}"],
            }
            for task in inputs.tasks
            if task.after is not None
        },
        "oov_rate": _oov_rates(split, inputs),
    }


def rate_name(task: Task) -> str:
    """Return what a task's mean label is called."""
    return "positive_rate" if task.is_binary else "mean"


def _oov_rates(split: SplitArrays, inputs: ModelInputs) -> dict[str, float | None]:
    """Return the share of values that training did not teach, of features that have a vocabulary."""
    known = np.zeros(len(inputs.layout.id_features), dtype=np.int64)
    for start in range(0, len(split), ROWS_PER_BATCH):
        known += np.count_nonzero(split.ids[start : start + ROWS_PER_BATCH], axis=0)
    rates: dict[str, float | None] = {}
    for place, name in enumerate(inputs.layout.id_features):
        if inputs.encoders[name].owner is not None:
            rates[name] = (len(split) - int(known[place])) / len(split)
    for name, lists in split.sequences.items():
        values = len(lists.values)
        rates[name] = (values - int(np.count_nonzero(lists.values))) / values if values else None
    return rates


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def check_split(
    name: str, statistics: Mapping[str, Any], tasks: Collection[Task], may_be_unknown: Collection[str] = ()
) -> None:
    """Refuse a training or validation split that nothing can be learned or said from.

    Raises:
        InputError: If a task has no row, a binary one has one class, or no id of a feature is known from training.
    """
    for task in tasks:
        found, where = statistics["tasks"][task.name], f"dataset.tasks.{task.name}"
        if not found["rows"]:
            raise InputError(
                f"{where}: no row of the {name} split is in its sample space. "
                f"Widen {where}.where or dataset.split, or drop the task."
            )
        if task.is_binary and found["positive_rate"] in (0, 1):
            raise InputError(
                f"{where}: every label in the {name} split is {found['positive_rate']:.0f}, so its AUC is undefined. "
                "Widen dataset.split or drop the task."
            )
    for feature, rate in statistics["oov_rate"].items():
        if rate == 1 and feature not in may_be_unknown:
            raise InputError(
                f"dataset.features.{feature}: no value in the {statistics['rows']:,} rows of the {name} split was seen "
                f"in training, so it says nothing. Check the column, or drop it with dataset.drop=[{feature}]."
            )
