"""Boosted trees, one booster a task: the baseline to beat where features are good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from funrec.config.build import build
from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.datasets.base import Dataset
from funrec.data.features.history import HistorySpec
from funrec.data.features.history_engine import compute_histories
from funrec.data.features.history_time import read_times
from funrec.data.preparation.splitting import SPLIT_NAMES
from funrec.data.slicing import read_columns
from funrec.experiment.run import Attempt, Trained
from funrec.utils.errors import InputError
from funrec.utils.specs import NotNegative, PositiveInt, PositiveNumber, whole

#: Folds of training rows, each of which sees the labels of the others, where there is no time.
FOLDS = 5
#: What an experiment may set for networks and trees do without.
NETWORK_KEYS = (
    *("backbone", "funnel", "interaction", "wide", "groups", "tower_units", "tower_dropout", "activation"),
    *("batch_normalization", "embedding_l2"),
)
#: Rows at a time.
BATCH = 1 << 18
Columns = dict[str, NDArray[Any]]


class BoostedTrees:
    """Gradient-boosted trees (scikit-learn's `HistGradientBoosting`), one booster a task.

    They read numbers, buckets and the lengths of sequences as they are. An id is read as how often it occurred and as
    its rate (mean, for regression) of the task: with a split by time, in the rows before, as a history of it would have
    it, and after the end of training only if the dataset's own histories see that far (`dataset.history.until: row`);
    else in the training rows of the other four of five folds.

    A run stores the scores, and no trees: `funrec predict` has nothing to predict with.

    Args:
        trees: Trees of a booster.
        leaves: Leaves of a tree.
        learning_rate: What a tree's values are multiplied by.
        smoothing: Rows at the rate over all ids that an id's rate starts from.
        max_rows: Most training rows of a booster, a sample of all; the label says so where it takes effect.
    """

    def __init__(
        self,
        trees: PositiveInt = 200,
        leaves: Annotated[int, whole(2)] = 31,
        learning_rate: PositiveNumber = 0.1,
        smoothing: NotNegative = 20.0,
        max_rows: PositiveInt = 1_000_000,
    ) -> None:
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.smoothing = smoothing
        self.max_rows = max_rows

    def fit(self, features: Columns, labels: NDArray[Any], weights: NDArray[Any], is_binary: bool, seed: int) -> Any:
        """Return a booster, fitted to rows with a weight above 0."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if is_binary else HistGradientBoostingRegressor
        booster = kind(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            early_stopping=False,
            random_state=seed,
        )
        chosen = np.flatnonzero(weights > 0)
        if chosen.size > self.max_rows:
            chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[: self.max_rows])
        return booster.fit(_matrix(features, chosen), labels[chosen], sample_weight=weights[chosen])


def train_gbdt(config: Mapping[str, Any], dataset: Dataset, data: PreparedData, attempt: Attempt) -> Trained:
    """Fit a booster to every task; the counterpart of `funrec.experiment.fitting.train`."""
    own = {key: value for key, value in config["model"].items() if key not in NETWORK_KEYS}
    trees = build(own, BoostedTrees, "model")
    if any(task.observed_after for task in data.tasks):
        raise InputError("model should be a network where labels come late (observed_after). Received: gbdt.")
    train = data.splits["train"]
    scores: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in data.splits}
    # Where cores are shared, OpenMP's threads wait for each other by spinning: one alone is up to twenty times as fast.
    with TemporaryDirectory(prefix="funrec-gbdt-") as folder, threadpool_limits(1):
        encoded = _encode_ids(dataset, data, trees.smoothing, config["seed"], Path(folder))
        for column, task in enumerate(data.tasks):
            features = {name: _features(data, name, task.name, encoded[name]) for name in data.splits}
            weights = np.ones(len(train)) if train.weights is None else np.asarray(train.weights[:, column], np.float64)
            if train.masks is not None:
                weights = weights * train.masks[:, column]
            labels = np.asarray(train.labels[:, column])
            booster = trees.fit(features["train"], labels, weights, task.is_binary, config["seed"])
            for name, split in data.splits.items():
                if name != "train":
                    offset = data.logit_offsets.get(task.name, 0.0)
                    scores[name][task.name] = _scores(booster, features[name], len(split), task.is_binary) + offset
    attempt.clock.lap("train")
    fields: dict[str, Any] = {"rows_per_second": None, "best_epoch": None, "selected_on": config.get("tuned_on")}
    name = "gbdt" if len(train) <= trees.max_rows else f"gbdt ({trees.max_rows:,} rows)"
    return Trained(
        lambda split: scores[split.name], {"backbone": name, "funnel": "independent"}, fields | {"gates": []}
    )


def _features(data: PreparedData, split: str, task: str, encoded: Columns) -> Columns:
    arrays = data.splits[split]
    columns: Columns = {f"number/{place}": arrays.numeric[:, place] for place in range(arrays.numeric.shape[1])}
    for place, name in enumerate(data.layout.id_features):
        if data.encoders[name].boundaries is not None:
            columns[f"bucket/{name}"] = arrays.ids[:, place]
    for name, lists in arrays.sequences.items():
        columns[f"length/{name}"] = np.diff(lists.offsets)
    return columns | {key: values for key, values in encoded.items() if key.partition("/")[0] in ("", task)}


def _matrix(columns: Columns, rows: Any) -> NDArray[np.float32]:
    return np.stack([np.asarray(values[rows], np.float32) for values in columns.values()], axis=1)


def _scores(booster: Any, features: Columns, rows: int, is_binary: bool) -> NDArray[np.float32]:
    score = booster.decision_function if is_binary else booster.predict
    parts = [score(_matrix(features, slice(start, start + BATCH))) for start in range(0, rows, BATCH)]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def _encode_ids(dataset: Dataset, data: PreparedData, smoothing: float, seed: int, folder: Path) -> dict[str, Columns]:
    """Return, by split, what stands for ids: `<task>/<feature>` for rates, `/<feature>` for how often they occurred."""
    names = [name for name in data.layout.id_features if data.encoders[name].boundaries is None]
    times = _times(dataset, data)
    if times is None:
        return _out_of_fold(data, names, smoothing, seed)
    specs = [HistorySpec(f"/{name}", by=(name,), count=True) for name in names]
    for task in data.tasks:
        key = "rate" if task.is_binary else "mean"
        options: dict[str, Any] = {key: task.name, "smoothing": smoothing}
        specs += [HistorySpec(f"{task.name}/{name}", by=(name,), **options) for name in names]
    parts = [_log(data, split, names, times[name]) for name, split in data.splits.items()]
    pl.concat(parts).write_ipc(folder / "log.arrow", compression="uncompressed")
    until = dataset.history.until if dataset.histories else "train_end"
    found = compute_histories(folder / "log.arrow", specs, folder, dataset.history.lag, until)
    starts = np.cumsum([0, *(len(split) for split in data.splits.values())])
    return {
        name: {key: values[start : start + len(split)] for key, values in found.numbers.items()}
        for (name, split), start in zip(data.splits.items(), starts, strict=False)
    }


def _times(dataset: Dataset, data: PreparedData) -> dict[str, pl.Series] | None:
    """Return every row's time by split; None unless rows are split by time, and it is known when labels are."""
    if dataset.split.by != "time":
        return None
    column = dataset.history_time()
    times = read_columns(dataset, data, [column], with_train=True)[column]
    _, unit = read_times("dataset.time", next(iter(times.values())))
    return times if unit.is_days or dataset.history.lag is not None else None


def _log(data: PreparedData, split: SplitArrays, names: list[str], times: pl.Series) -> pl.DataFrame:
    ids = {f"by/{name}": np.asarray(split.ids[:, data.layout.id_features.index(name)]) for name in names}
    labels = {f"number/{task.name}": pl.Series(_labels(split, column)) for column, task in enumerate(data.tasks)}
    flags = {"feeds": split.name in SPLIT_NAMES, "trains": split.name == "train"}
    return pl.DataFrame({"time": times, **ids, **labels}).with_columns(**{k: pl.lit(v) for k, v in flags.items()})


def _labels(split: SplitArrays, column: int) -> NDArray[np.float64]:
    """Return a task's labels, NaN outside of its sample space."""
    labels = np.asarray(split.labels[:, column], np.float64)
    return labels if split.masks is None else np.where(split.masks[:, column], labels, np.nan)


def _out_of_fold(data: PreparedData, names: list[str], smoothing: float, seed: int) -> dict[str, Columns]:
    train = data.splits["train"]
    folds = np.random.default_rng(seed).integers(0, FOLDS, len(train))
    found: dict[str, Columns] = {name: {} for name in data.splits}
    for name in names:
        place = data.layout.id_features.index(name)
        ids = {split: np.asarray(arrays.ids[:, place]) for split, arrays in data.splits.items()}
        size = 1 + max(int(codes.max(initial=0)) for codes in ids.values())
        for column, task in enumerate(["", *(task.name for task in data.tasks)]):
            labels = np.ones(len(train)) if not task else _labels(train, column - 1)
            known = ~np.isnan(labels)
            mean = labels[known].mean()

            cells = ids["train"] * FOLDS + folds
            sums, rows = (
                np.bincount(cells, weights, size * FOLDS).reshape(size, FOLDS)
                for weights in (np.where(known, labels, 0.0), known)
            )
            for split, codes in ids.items():
                total, seen = (by.sum(1)[codes] for by in (sums, rows))
                if split == "train":  # without the rows of the own fold
                    total, seen = (all_of - by[codes, folds] for all_of, by in ((total, sums), (seen, rows)))
                rate = (total + smoothing * mean) / np.maximum(seen + smoothing, 1e-12)
                found[split][f"{task}/{name}"] = rate if task else seen
    return found
