"""Prepared rows as memory-mapped arrays, and what a model needs to read raw rows as they were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.domain import check_rows_domains
from funrec.data.features.encoding import (
    Encoder,
    encode_features,
    id_names,
    load_encoders,
    read_features,
    save_encoders,
)
from funrec.data.features.vocabulary import Vocabulary
from funrec.data.preparation.histories import HistorySnapshot
from funrec.schema import Feature, InputLayout, Task, read_feature
from funrec.utils.errors import InputError
from funrec.utils.files import read_json, write_json

INPUTS = "inputs.json"


@dataclass(frozen=True)
class SequenceArrays:
    """Lists of embedding rows, one after another.

    Attributes:
        offsets: Where each row's list begins, and where the last one ends; int64 `(rows + 1,)`.
        values: The lists; int32 `(values,)`. 0 is out-of-vocabulary.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def padded(self, rows_index: NDArray[np.integer[Any]], length: int) -> NDArray[np.int32]:
        """Return the first `length` values of the given rows, padded with -1; int32 `(len(rows_index), length)`."""
        rows_index = np.asarray(rows_index)
        starts = np.asarray(self.offsets[rows_index])
        lengths = np.asarray(self.offsets[rows_index + 1]) - starts
        steps = np.arange(length)
        inside = steps < lengths[:, None]
        padded = np.full((len(starts), length), -1, dtype=np.int32)
        padded[inside] = self.values[(starts[:, None] + steps)[inside]]
        return padded


@dataclass(frozen=True)
class SplitArrays:
    """One split's rows. Arrays are memory maps that must not be written to.

    Attributes:
        name: `train`, `valid`, `test`, or a further evaluation split such as `random`.
        ids: Embedding rows, local to each feature, in the order of `PreparedData.id_features`; int32 `(rows, C)`.
        numeric: Standardised numbers, in the order of `PreparedData.numeric_features`; float32 `(rows, N)`.
        sequences: Lists of embedding rows by feature.
        labels: In the tasks' order; float32 `(rows, T)`. 0 where masked and unknown.
        masks: Whether a row is in a task's sample space; bool `(rows, T)`; none where every row is in all.
        weights: A row's weight in each task's loss; float32 `(rows, T)`; training only; none where all are 1.
        groups: Place of the group in `PreparedData.group_keys`; int32 `(rows,)`; none without a group column.
        items: Place of the item in `PreparedData.item_keys`; int32 `(rows,)`; none without an item column.
        rows: Place of the row among those that `Dataset.scan` returned, from 0; int64 `(rows,)`.
        oracle: True probabilities where the dataset knows them, NaN for a task it does not know; float32 `(rows, T)`.
    """

    name: str
    ids: NDArray[np.int32]
    numeric: NDArray[np.float32]
    sequences: Mapping[str, SequenceArrays]
    labels: NDArray[np.float32]
    masks: NDArray[np.bool_] | None
    weights: NDArray[np.float32] | None
    groups: NDArray[np.int32] | None
    items: NDArray[np.int32] | None
    rows: NDArray[np.int64]
    oracle: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class PreparedData:
    """A dataset, ready to train and evaluate on.

    Attributes:
        path: The cache entry.
        fingerprint: What the arrays depend on, hashed.
        features: The features, with what concerns the model as this run's config has it.
        tasks: The tasks, likewise.
        splits: `train`, `valid`, and where there are any, `test` and further evaluation splits.
        encoders: How each feature is read, by name.
        vocabularies: By the name of the feature that owns it; a sharing feature has none of its own.
        cardinalities: Embedding rows by the name of the feature that owns them, row 0 included.
        id_features: Names of the columns of `SplitArrays.ids`.
        numeric_features: Names of the columns of `SplitArrays.numeric`.
        sequence_features: Names in `SplitArrays.sequences`.
        statistics: Plain values: rows, users, items, positive rates, ... See `funrec.data.preparation.statistics`.
        row_fingerprints: By split: a hash of row numbers, groups, labels and masks. Two runs with equal hashes are
            scored on the same rows, whatever their features.
        domain: The feature that is the row's domain; None without one.
        logit_offsets: What to add to a task's trained logit, because its negatives were downsampled.
        downsampled_task: The task whose negatives were.
        history: What the histories of new rows need; None without any.
    """

    path: Path
    fingerprint: str
    features: tuple[Feature, ...]
    tasks: tuple[Task, ...]
    splits: Mapping[str, SplitArrays]
    encoders: Mapping[str, Encoder]
    vocabularies: Mapping[str, Vocabulary]
    cardinalities: Mapping[str, int]
    id_features: tuple[str, ...]
    numeric_features: tuple[str, ...]
    sequence_features: tuple[str, ...]
    statistics: Mapping[str, Any]
    row_fingerprints: Mapping[str, str]
    domain: str | None = None
    logit_offsets: Mapping[str, float] = field(default_factory=dict)
    downsampled_task: str | None = None
    history: HistorySnapshot | None = None

    @property
    def scalers(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the training split, by numeric feature."""
        return {name: (self.encoders[name].mean, self.encoders[name].scale) for name in self.numeric_features}

    @cached_property
    def group_keys(self) -> pl.Series | None:
        """The raw value of every group code; none without a group column."""
        return self._keys("groups")

    @cached_property
    def item_keys(self) -> pl.Series | None:
        """The raw value of every item code; none without an item column."""
        return self._keys("items")

    def _keys(self, role: str) -> pl.Series | None:
        path = self.path / f"{role}.parquet"
        return pl.read_parquet(path)["key"] if path.exists() else None

    def encode(self, frame: pl.DataFrame, name: str = "rows") -> SplitArrays:
        """Encode raw rows, without labels, as the training split taught; an unknown id becomes row 0.

        Args:
            frame: Rows with the features' raw columns; other columns are ignored.
            name: What to call them.

        Returns:
            Arrays with no labels, `(rows, 0)`.

        Raises:
            InputError: If a feature's column is missing, or a number is null.
        """
        if self.history is not None:
            frame = self.history.complete(frame)
        return encode_rows(self.encoders, self.vocabularies, frame, name, self.domain)


def encode_rows(
    encoders: Mapping[str, Encoder],
    vocabularies: Mapping[str, Vocabulary],
    frame: pl.DataFrame,
    name: str = "rows",
    domain: str | None = None,
) -> SplitArrays:
    """Encode raw rows, without labels; see `PreparedData.encode`."""
    arrays = encode_features(encoders, vocabularies, read_features(encoders, frame))
    if domain is not None:
        domains = arrays.ids[:, id_names(encoders).index(domain)]
        check_rows_domains(domain, domains, frame[encoders[domain].feature.column], vocabularies, name)
    return SplitArrays(
        name=name,
        ids=arrays.ids,
        numeric=arrays.numeric,
        sequences={
            key: SequenceArrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), values)
            for key, (lengths, values) in arrays.sequences.items()
        },
        labels=np.zeros((frame.height, 0), dtype=np.float32),
        masks=None,
        weights=None,
        groups=None,
        items=None,
        rows=np.arange(frame.height, dtype=np.int64),
        oracle=None,
    )


def open_array(path: Path) -> NDArray[Any]:
    """Open an `.npy` file as a read-only memory map; an empty array, which cannot be mapped, is read."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise InputError(f"{path} should be an array of format 1.0. Received: {version}. Delete its folder.")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if 0 in shape:
        return np.zeros(shape, dtype=dtype)
    return np.load(path, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class ModelInputs:
    """How raw rows become a model's inputs, independent of the data set and its cache.

    Attributes:
        tasks: The tasks the model was trained for.
        encoders: How each feature is read, by name.
        vocabularies: By the name of the feature that owns it.
        layout: Which features the arrays hold.
        history: What the histories of new rows need; None without any.
    """

    tasks: tuple[Task, ...]
    encoders: Mapping[str, Encoder]
    vocabularies: Mapping[str, Vocabulary]
    layout: InputLayout
    history: HistorySnapshot | None = None

    @property
    def columns(self) -> list[str]:
        """The raw columns that are read."""
        features = [encoder.feature for encoder in self.encoders.values()]
        keys = [] if self.history is None else self.history.columns
        return list(dict.fromkeys([*(feature.column for feature in features if not feature.is_history), *keys]))

    def encode(self, frame: pl.DataFrame) -> SplitArrays:
        """Encode raw rows as the training split taught; an unknown id becomes row 0.

        Raises:
            InputError: If a feature's column is missing, or a number is null.
        """
        if self.history is not None:
            frame = self.history.complete(frame)
        return encode_rows(self.encoders, self.vocabularies, frame, domain=self.layout.domain)


def save_inputs(data: PreparedData, folder: Path) -> None:
    """Write what `load_inputs` reads into `folder`.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "features": [feature.to_plain() for feature in data.features],
        "tasks": [asdict(task) for task in data.tasks],
        **save_encoders(data.encoders, data.vocabularies, folder),
        "cardinalities": dict(data.cardinalities),
        "id_features": data.id_features,
        "numeric_features": data.numeric_features,
        "domain": data.domain,
        "history": None if data.history is None else data.history.save(folder),
    }
    write_json(folder / INPUTS, state)


def load_inputs(folder: Path) -> ModelInputs:
    """Read what `save_inputs` wrote.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        state = read_json(folder / INPUTS)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} should hold a model and its {INPUTS}. It does not: run it again.") from None
    features = tuple(read_feature(values) for values in state["features"])
    encoders, vocabularies = load_encoders(features, state, folder)
    return ModelInputs(
        tasks=tuple(Task(**values) for values in state["tasks"]),
        encoders=encoders,
        vocabularies=vocabularies,
        layout=InputLayout(
            features,
            tuple(state["id_features"]),
            tuple(state["numeric_features"]),
            state["cardinalities"],
            state.get("domain"),
        ),
        history=HistorySnapshot.load(state["history"], folder) if state.get("history") else None,
    )
