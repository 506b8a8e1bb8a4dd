"""What is checked about rows: features that give labels away, and labels that do not nest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import numpy as np
import polars as pl

from funrec.data.arrays import PreparedData
from funrec.data.datasets.base import Dataset
from funrec.schema import Task
from funrec.utils.errors import InputError

#: Share of the errors that a feature which determines a label removes; a thousandth may straddle a threshold.
DETERMINES = 0.95
#: Leaves of the tree that predicts a label from a number: enough for some thresholds, too few for single rows.
_LEAVES = 64


def measure_agreement(dataset: Dataset, train: pl.LazyFrame) -> dict[str, dict[str, list[float]]]:
    """Measure how far each feature that a label's expression reads determines that label.

    The label is predicted from the feature's value alone, by the mean over every other training row (of a number with
    many values, by a regression tree), and compared with the rows between.

    Returns:
        By feature and task: the share of a constant's errors (of a regression, of the variance) that the feature
        removes, and the share of labels that it gives.
    """
    found: dict[str, dict[str, list[float]]] = {}
    suspected = [
        (f, task) for f in dataset.features for task in dataset.tasks if f.column in dataset.label(task).columns
    ]
    for feature, task in suspected:
        rows = train.filter(pl.col(f"where/{task.name}")) if task.where is not None else train
        table = rows.select(value=f"feature/{feature.name}", label=f"label/{task.name}").drop_nulls("label")
        found.setdefault(feature.name, {})[task.name] = _agreement(table.collect(engine="streaming"), task)
    return found


def _agreement(table: pl.DataFrame, task: Task) -> list[float]:
    table = table.with_row_index("place").with_columns(pl.col("label").cast(float))
    known, compared = (table.filter(pl.col("place") % 2 == half) for half in (0, 1))
    label = compared["label"].to_numpy()
    if table["value"].dtype.is_numeric() and table["value"].n_unique() > _LEAVES:
        # Loaded here: it takes half a second, and few labels are computed from a number that is a feature too.
        from sklearn.tree import DecisionTreeRegressor

        halves = [part["value"].cast(float).to_numpy()[:, None] for part in (known, compared)]
        tree = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, random_state=0).fit(halves[0], known["label"].to_numpy())
        mean = tree.predict(halves[1])
    else:
        means = known.group_by("value").agg(mean=pl.col("label").mean())
        compared = compared.join(means, on="value", how="left", nulls_equal=True, maintain_order="left")
        mean = compared["mean"].fill_null(known["label"].mean()).to_numpy()
    if task.kind == "binary":
        errors, baseline = float(np.mean((mean > 0.5) != (label > 0.5))), float(min(label.mean(), 1 - label.mean()))
    else:
        errors, baseline = float(np.mean((label - mean) ** 2)), float(label.var())
    removed = 1 - errors / baseline if baseline > 0 else 0.0
    return [removed, 1 - errors if task.kind == "binary" else removed]


def check_agreement(dataset: Dataset, agreement: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Refuse features that determine a label, by what `measure_agreement` found, unless they say how they are known."""
    for feature in dataset.features:
        for task, (removed, share) in agreement.get(feature.name, {}).items():
            if removed >= DETERMINES and not feature.known_before:
                where = f"dataset.features.{feature.name}"
                raise InputError(
                    f"{where} should not be a label: task {task} is read from column {feature.column}, which alone "
                    f"gives {share:.1%} of it. Drop the feature, dataset.drop=[{feature.name}], or say how it is known "
                    f"beforehand, {where}.known_before='...'."
                )


def check_nesting(dataset: Dataset, data: PreparedData, funnel: str) -> None:
    """Check that a funnel may multiply probabilities: labels nest, and are known outside the task before, too.

    Raises:
        InputError: If a positive label stands where that of the task before it is 0, with the number of such rows and
            the label expression that mends it; or a task is masked by the label of the task before it.
    """
    tasks = {task.name: task for task in data.tasks}
    for task in data.tasks:
        if task.after is None:
            continue
        parent = tasks[task.after]
        key = f"dataset.tasks.{task.name}"
        read = () if task.where is None else dataset.parse(f"{key}.where", task.where).columns
        if set(read) & set(dataset.label(parent).columns):
            raise InputError(
                f"{key}.where should leave rows without {parent.name} in: the funnel {funnel} learns on all exposures. "
                f"Received: {task.where}. Set {key}.where=null."
            )
        for name in data.splits:
            counts = data.statistics["splits"][name]["nesting"][task.name]
            if counts["violations"]:
                label = f"{_condition(parent)} AND {_condition(task)}".replace('"', '\\"')
                override = shlex.quote(f'{key}.label="{label}"')
                raise InputError(
                    f"{key}.label should be 0 wherever {parent.name} is 0, for the funnel {funnel}. "
                    f"Received: {counts['violations']:,} of {counts['positives']:,} positives without {parent.name} "
                    f"in the {name} split. Nest the label: {override}"
                )


def _condition(task: Task) -> str:
    return f"{task.label} = 1" if task.label.isidentifier() else f"({task.label})"
