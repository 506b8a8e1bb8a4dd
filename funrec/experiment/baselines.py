"""What a multi-task model has to beat: logistic regression, an item's popularity, a model per task, boosted trees."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funrec.config.compose import compose
from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.datasets.base import Dataset
from funrec.experiment.run import Attempt, Trained
from funrec.runs.folder import is_run, new_run_folder

BASELINES = ("logistic", "popularity", "single_task", "gbdt")
POPULARITY = "popularity"

#: Impressions at the mean rate that every item's own are mixed with.
SMOOTHING = 20.0
ROWS_PER_BATCH = 1 << 20


def baseline_configs(config: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each baseline's name and configuration: that of a run with another model, and `fixed` weights.

    Nothing is shared in a baseline, so that there is nothing for a weighting to reconcile. A model's own settings
    (`model.tower_units=...`) are those that its file and the experiment give it, not those of the run.
    """
    kept = [override for override in overrides if override.lstrip("+").startswith("experiment=")]
    for name in BASELINES:
        sibling = copy.deepcopy(dict(config)) | {"baselines": False, "tuned_on": None}
        if name == POPULARITY:
            sibling["model"] = {"_target_": f"{__name__}.{Popularity.__name__}", "smoothing": SMOOTHING}
        else:
            sibling["model"] = compose([*kept, f"model={name}"])["model"]
        sibling["weighting"] = compose(["weighting=fixed"])["weighting"]
        yield name, sibling


def baseline_folder(folder: Path, name: str, is_resumed: bool) -> Path:
    """Return the folder of a run's baseline, beside the run's own: made now, unless a resumed run has it already."""
    place = folder.parent / f"{folder.name}_{name}"
    return place if is_resumed and is_run(place) else new_run_folder(place.parent, place.name)


def has_network(config: Mapping[str, Any]) -> bool:
    """Whether a configuration's model is a network, rather than counts or trees."""
    return not str(config["model"].get("_target_")).startswith("funrec.experiment.")


def train_baseline(config: Mapping[str, Any], dataset: Dataset, data: PreparedData, attempt: Attempt) -> Trained:
    """Train a model that is no network."""
    if is_popularity(config):
        return train_popularity(config, data, attempt)
    from funrec.experiment.gbdt import train_gbdt

    return train_gbdt(config, dataset, data, attempt)


def is_popularity(config: Mapping[str, Any]) -> bool:
    """Whether a configuration's model is an item's popularity, which needs no training."""
    return bool(config["model"].get("_target_") == f"{__name__}.{Popularity.__name__}")


def train_popularity(config: Mapping[str, Any], data: PreparedData, attempt: Attempt) -> Trained:
    """Count what the items of the training split did; the counterpart of `funrec.experiment.fitting.train`."""
    popularity = Popularity(data, config["model"]["smoothing"])
    attempt.clock.lap("train")
    fields: dict[str, Any] = {"rows_per_second": None, "best_epoch": None, "selected_on": None, "gates": []}
    return Trained(popularity.score, {"backbone": POPULARITY, "funnel": "independent"}, fields)


class Popularity:
    """Scores a row by how its item did in training, for every user alike.

    `p = (positives + smoothing * mean rate) / (rows + smoothing)` of the item's training rows in the task's sample
    space, each at its weight in the loss. An item that training never saw has the mean rate.
    """

    def __init__(self, data: PreparedData, smoothing: float = SMOOTHING) -> None:
        train = data.splits["train"]
        if train.items is None:
            raise ValueError("Popularity needs items.")
        size = 1 + max(int(split.items.max(initial=-1)) for split in data.splits.values() if split.items is not None)
        sums, rows = np.zeros((size, len(data.tasks))), np.zeros((size, len(data.tasks)))
        for start in range(0, len(train), ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            labels, items = np.asarray(train.labels[part], np.float64), train.items[part]
            weights = np.ones_like(labels) if train.weights is None else np.asarray(train.weights[part], np.float64)
            if train.masks is not None:
                weights = weights * train.masks[part]
            for column in range(len(data.tasks)):
                rows[:, column] += np.bincount(items, weights[:, column], size)
                sums[:, column] += np.bincount(items, weights[:, column] * labels[:, column], size)
        mean = sums.sum(0) / np.maximum(rows.sum(0), 1e-12)
        self._tasks = data.tasks
        self._offsets = data.logit_offsets
        self._rates = (sums + smoothing * mean) / (rows + smoothing)

    def score(self, split: SplitArrays) -> dict[str, np.ndarray]:
        """Return a logit per row and binary task, the mean label for regression, by task; `float32 (rows,)`."""
        scores = {}
        for column, task in enumerate(self._tasks):
            rate = self._rates[np.asarray(split.items), column]
            if task.kind == "binary":
                rate = np.clip(rate, 1e-9, 1 - 1e-9)
                rate = np.log(rate / (1 - rate)) + self._offsets.get(task.name, 0.0)
            scores[task.name] = rate.astype(np.float32)
        return scores
