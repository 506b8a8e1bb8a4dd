"""Run folders made by hand, from scores: what a comparison reads, without a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funrec.metrics import evaluate
from funrec.runs import record
from funrec.schema import Task

TASKS = (Task("click", "click"), Task("like", "like"))


def planted(users: int = 80, seed: int = 0, sizes: int = 8) -> dict[str, NDArray[Any]]:
    """Return rows of users with two nested labels, and `signal`, the true logits that drive them, `(rows, 2)`."""
    draw = np.random.default_rng(seed)
    group = np.repeat(np.arange(users), 1 + draw.integers(0, sizes, users))
    signal = draw.normal(size=(users, 2))[group] + draw.normal(size=(group.size, 2))
    labels = (draw.random(signal.shape) < 1 / (1 + np.exp(-2 * signal))).astype(np.float32)
    labels[:, 1] *= labels[:, 0]
    return {"group": group, "labels": labels, "signal": signal}


def noisy(rows: Mapping[str, NDArray[Any]], noise: float, seed: int) -> NDArray[np.float32]:
    """Return scores `(rows, 2)` that know the signal up to so much noise."""
    draw = np.random.default_rng(1000 + seed)
    return (rows["signal"] + noise * draw.normal(size=rows["signal"].shape)).astype(np.float32)


def write_run(
    folder: Path,
    rows: Mapping[str, NDArray[Any]],
    scores: NDArray[np.float32],
    model: str = "mmoe",
    seed: int = 0,
    weighting: str = "fixed",
    tasks: tuple[Task, ...] = TASKS,
    split: NDArray[Any] | None = None,
    has_users: bool = True,
    **changes: Any,
) -> Path:
    """Write a finished run and return its folder.

    Args:
        folder: Where.
        rows: What `planted` returns.
        scores: A column per task.
        model: The label.
        seed: The seed.
        weighting: Its name; `fixed` is not spelled out among the overrides.
        tasks: The tasks, in the order of the columns of labels and scores.
        split: The split of every row; all validation if none.
        has_users: Whether the data has a group column.
        changes: Fields of the record to change.
    """
    folder.mkdir(parents=True)
    groups = rows["group"] if has_users else None
    split = np.full(len(scores), "valid") if split is None else split
    metrics: dict[str, float] = {}
    for name in dict.fromkeys(split.tolist()):
        part = split == name
        metrics |= evaluate(
            tasks,
            rows["labels"][part],
            scores[part],
            masks=None if not np.isnan(rows["labels"]).any() else ~np.isnan(rows["labels"][part]),
            groups=None if groups is None else groups[part],
            suffix="" if name == "valid" else f"@{name}",
        ).metrics
    columns: dict[str, Any] = {"split": split, "row": np.arange(len(scores))}
    if groups is not None:
        columns["group"] = groups
    for place, task in enumerate(tasks):
        columns |= {f"label_{task.name}": rows["labels"][:, place], f"score_{task.name}": scores[:, place]}
    record.write_predictions(folder, columns)
    overrides = [f"model={model}", f"seed={seed}", *([f"weighting={weighting}"] if weighting != "fixed" else [])]
    config = {
        "seed": seed,
        "model": {"name": model},
        "weighting": {"_target_": f"funrec.weighting.{weighting}.{weighting.capitalize()}"},
        "dataset": {"root": str(folder.parent)},
        "metrics": {"gauc_weight": "impressions"},
    }
    fields = {
        "label": model,
        "overrides": overrides,
        "config": config,
        "seed": seed,
        "finished": f"2026-01-01T00:00:{seed:02}",
        "tasks": [task.name for task in tasks],
        "selected_on": None,
        "row_fingerprint": {name: f"{name} {rows['labels'].sum()}" for name in dict.fromkeys(split.tolist())},
        "rows_per_second": None,
        "metrics": metrics,
    }
    record.write(folder, fields | changes)
    return folder
