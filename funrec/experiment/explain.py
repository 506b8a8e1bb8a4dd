"""Which features a finished run's model relies on: how much AUC it loses where their values are shuffled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import cache_folder
from funrec.data.preparation.extending import Known
from funrec.data.preparation.prepare import prepare
from funrec.experiment.prediction import load_model
from funrec.metrics import UndefinedMetric, auc
from funrec.models.model import MultiTaskModel
from funrec.runs import record as records
from funrec.schema import event_columns
from funrec.training.batches import take_features
from funrec.utils.errors import InputError, did_you_mean

ROWS, REPEATS = 10_000, 10
Features = Mapping[str, Any]


def explain(
    run: str | Path,
    groups: Mapping[str, Sequence[str]] | None = None,
    rows: int = ROWS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the permutation importance of every feature and group of features (Breiman, 2001).

    `importance = AUC - AUC with the feature's values shuffled among the rows`, on validation rows. Every repeat
    shuffles anew and draws users (rows, without a group column) with replacement, so that the 95% interval, by
    Student's t, covers both. Features that carry the same thing stand in for each other: shuffle them as a group.

    Args:
        run: The run's folder; its data set must still be there.
        groups: Features to shuffle together, by the group's name.
        rows: Most validation rows.
        repeats: At least 2.
        seed: Of the draws.

    Returns:
        `feature`, `task`, `importance`, `low` and `high`, the most important of each task first.

    Raises:
        InputError: If there is no finished run, or a group names an unknown feature.
    """
    config = records.read(run)["config"]
    known = Known.read(Path(run)) if config["trainer"].get("start_from") else None
    data = prepare(build(config["dataset"], Dataset, "dataset"), cache_folder(), known)
    names = [feature.name for feature in data.layout.features]
    chosen = {name: [name] for name in names} | {name: list(members) for name, members in (groups or {}).items()}
    for members in chosen.values():
        for name in members:
            if name not in names:
                raise InputError(f"--group: no such feature {name}.{did_you_mean(name, names)}")
    if repeats < 2:
        raise InputError(f"--repeats should be at least 2. Received: {repeats}.")
    model, split, draw = load_model(Path(run)), data.splits["valid"], np.random.default_rng(seed)
    index = np.sort(draw.permutation(len(split))[:rows])
    features = take_features(split, model.layout, index)
    labels = np.asarray(split.labels[index])
    masks = np.ones(labels.shape, bool) if split.masks is None else np.asarray(split.masks[index])
    units = np.arange(index.size) if split.groups is None else np.unique(split.groups[index], return_inverse=True)[1]
    tasks = [(column, task.name) for column, task in enumerate(data.tasks) if task.is_binary]
    base, found = _score(model, features), []
    samples = [_draw_units(units, draw) for _ in range(repeats)]
    for name, members in chosen.items():
        drops: dict[str, list[float]] = {task: [] for _, task in tasks}
        for sample in samples:
            shuffled = _score(model, _shuffle(features, members, model, draw.permutation(index.size)))
            for column, task in tasks:
                picked = sample[masks[sample, column]]
                try:
                    before, after = (auc(labels[picked, column], scores[task][picked]) for scores in (base, shuffled))
                except UndefinedMetric:  # one class among the rows drawn
                    continue
                drops[task].append(before - after)
        for task, values in drops.items():
            if len(values) > 1:
                spread = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)
                mean = float(np.mean(values))
                found.append((name, task, mean, mean - spread, mean + spread))
    frame = pd.DataFrame(found, columns=["feature", "task", "importance", "low", "high"])
    return frame.sort_values(["task", "importance"], ascending=[True, False], ignore_index=True)


def _score(model: MultiTaskModel, features: Features) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in model.scores(model(features, training=False), features).items()}


def _draw_units(units: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return the rows of as many units as there are, drawn with replacement."""
    order = np.argsort(units, kind="stable")
    starts = np.searchsorted(units[order], np.arange(units.max() + 2))
    drawn = draw.integers(0, units.max() + 1, units.max() + 1)
    return np.concatenate([order[starts[unit] : starts[unit + 1]] for unit in drawn])


def _shuffle(features: Features, names: Sequence[str], model: MultiTaskModel, order: np.ndarray) -> Features:
    """Return the features with the values of some of them in another order of the rows."""
    layout, changed = model.layout, dict(features)
    for part, columns in (("ids", layout.id_features), ("numeric", layout.numeric_features)):
        places = [place for place, name in enumerate(columns) if name in names]
        if places:
            changed[part] = features[part].copy()
            changed[part][:, places] = features[part][order][:, places]
    sequences = features["sequences"]
    for events in event_columns(layout.features):  # whose columns must stay aligned
        if any(column.name in names for column in events):
            names = [*names, *(column.name for column in events)]
    changed["sequences"] = {name: values[order] if name in names else values for name, values in sequences.items()}
    return changed
