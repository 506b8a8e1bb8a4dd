"""Prepared rows as memory-mapped arrays, and what a model needs to read raw rows as they were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.config.inputs import read_feature
from funrec.data.domain import check_rows_domains
from funrec.data.features.encoding import Encoder, read_features
from funrec.data.features.vocabulary import Vocabulary
from funrec.data.preparation.histories import HistorySnapshot
from funrec.schema import Feature, InputLayout, Task, event_columns
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
        ids: Embedding rows, local to each feature, in the order of `InputLayout.id_features`; int32 `(rows, C)`.
        numeric: Standardised numbers, in the order of `InputLayout.numeric_features`; float32 `(rows, N)`.
        sequences: Lists of embedding rows by feature.
        labels: In the tasks' order; float32 `(rows, T)`. 0 where masked and unknown.
        rows: Place of the row among those that `Dataset.scan` returned, from 0; int64 `(rows,)`.
        masks: Whether a row is in a task's sample space; bool `(rows, T)`; none where every row is in all.
        weights: A row's weight in each task's loss; float32 `(rows, T)`; training only; none where all are 1.
        observed: Chance that a positive label of the row is seen by the end of training; float32 `(rows, T)`; training
            only; none where no label comes late.
        groups: Place of the group in `PreparedData.group_keys`; int32 `(rows,)`; none without a group column.
        items: Place of the item in `PreparedData.item_keys`; int32 `(rows,)`; none without an item column.
        oracle: True probabilities where the dataset knows them, NaN for a task it does not know; float32 `(rows, T)`.
    """

    name: str
    ids: NDArray[np.int32]
    numeric: NDArray[np.float32]
    sequences: Mapping[str, SequenceArrays]
    labels: NDArray[np.float32]
    rows: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None
    weights: NDArray[np.float32] | None = None
    observed: NDArray[np.float32] | None = None
    groups: NDArray[np.int32] | None = None
    items: NDArray[np.int32] | None = None
    oracle: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """How raw rows become a model's inputs, independent of the data set and its cache.

    Attributes:
        tasks: The tasks the model was trained for.
        encoders: How each feature is read, by name.
        vocabularies: By the name of the feature that owns it; a sharing feature has none of its own.
        domain: The feature that is the row's domain; None without one.
        history: What the histories of new rows need; None without any.
    """

    tasks: tuple[Task, ...]
    encoders: Mapping[str, Encoder]
    vocabularies: Mapping[str, Vocabulary]
    domain: str | None = None
    history: HistorySnapshot | None = None

    @cached_property
    def layout(self) -> InputLayout:
        """Which features the arrays hold."""
        encoders = self.encoders
        buckets = {name: len(e.boundaries) + 2 for name, e in encoders.items() if e.boundaries is not None}
        rows = {name: len(vocabulary) for name, vocabulary in self.vocabularies.items()} | buckets
        return InputLayout(
            features=tuple(encoder.feature for encoder in encoders.values()),
            id_features=tuple(name for name, e in encoders.items() if not e.is_number and not e.is_sequence),
            numeric_features=tuple(name for name, encoder in encoders.items() if encoder.is_number),
            cardinalities={name: rows[name] for name in encoders if name in rows},
            domain=self.domain,
        )

    @property
    def columns(self) -> list[str]:
        """The raw columns that are read."""
        keys = [] if self.history is None else self.history.columns
        columns = [feature.column for feature in self.layout.features if not feature.is_history]
        return list(dict.fromkeys([*columns, *keys]))

    def encode(self, frame: pl.DataFrame) -> SplitArrays:
        """Encode raw rows, without labels, as the training split taught; an unknown id becomes row 0."""
        if self.history is not None:
            frame = self.history.complete(frame)
        return self.encode_read(read_features(self.encoders, frame), "rows")

    def encode_read(self, frame: pl.DataFrame, name: str) -> SplitArrays:
        """Encode the columns `feature/<name>`: the one path from raw values to arrays.

        Returns:
            Arrays of this name with no labels, `(rows, 0)`.
        """
        ids = np.empty((frame.height, len(self.layout.id_features)), dtype=np.int32)
        for place, key in enumerate(self.layout.id_features):
            ids[:, place] = self.encoders[key].ids(frame[f"feature/{key}"], self.vocabularies)
        numeric = np.empty((frame.height, len(self.layout.numeric_features)), dtype=np.float32)
        for place, key in enumerate(self.layout.numeric_features):
            numeric[:, place] = self.encoders[key].number(frame[f"feature/{key}"])
        if self.domain is not None:
            domains = ids[:, self.layout.id_features.index(self.domain)]
            where = name if name == "rows" else f"the {name} split"
            vocabulary = self.vocabularies[self.domain]
            check_rows_domains(self.domain, domains, frame[f"feature/{self.domain}"], vocabulary, where)
        sequences = {}
        for key in (feature.name for feature in self.layout.sequence_features):
            lengths, values = self.encoders[key].sequence(frame[f"feature/{key}"], self.vocabularies)
            sequences[key] = SequenceArrays(np.concatenate(([0], np.cumsum(lengths))), values)
        for columns in event_columns(self.layout.features):
            _check_aligned([column.name for column in columns], sequences)
        labels, rows = np.zeros((frame.height, 0), dtype=np.float32), np.arange(frame.height, dtype=np.int64)
        return SplitArrays(name, ids, numeric, sequences, labels, rows)

    def to_plain(self) -> dict[str, Any]:
        """Return the plain values that say how to read rows, but for the vocabularies' keys and the history."""
        encoders = {name: asdict(encoder) for name, encoder in self.encoders.items()}
        for encoder in encoders.values():
            del encoder["feature"]
        return {
            "encoders": encoders,
            "vocabularies": {
                name: {"key": vocabulary.key, "hash_buckets": vocabulary.hash_buckets}
                for name, vocabulary in self.vocabularies.items()
            },
        }

    def save(self, folder: Path) -> dict[str, Any]:
        """Write vocabularies and history into `folder`, and return the plain values that `load` needs beside them."""
        for place, vocabulary in enumerate(self.vocabularies.values()):
            vocabulary.save(folder / f"vocabulary_{place}.parquet")
        return {**self.to_plain(), "history": None if self.history is None else self.history.save(folder)}

    @staticmethod
    def load(
        state: Mapping[str, Any], folder: Path, features: Sequence[Feature], tasks: Sequence[Task], domain: str | None
    ) -> ModelInputs:
        """Read what `save` wrote."""
        return ModelInputs(
            tasks=tuple(tasks),
            encoders={feature.name: Encoder(feature, **state["encoders"][feature.name]) for feature in features},
            vocabularies={
                name: Vocabulary.load(folder / f"vocabulary_{place}.parquet", saved["key"], saved["hash_buckets"])
                for place, (name, saved) in enumerate(state["vocabularies"].items())
            },
            domain=domain,
            history=HistorySnapshot.load(state["history"], folder) if state.get("history") else None,
        )


def _check_aligned(names: Sequence[str], sequences: Mapping[str, SequenceArrays]) -> None:
    """Check that sequences of the same events are equally long in every row."""
    for name in names[1:]:
        lengths, others = (np.diff(sequences[one].offsets) for one in (names[0], name))
        if not np.array_equal(lengths, others):
            row = int(np.argmax(lengths != others))
            raise InputError(
                f"dataset.features.{name} should have as many values in a row as {names[0]}, whose events it has. "
                f"Received: {others[row]} and {lengths[row]}."
            )


@dataclass(frozen=True, kw_only=True)
class PreparedData(ModelInputs):
    """A dataset, ready to train and evaluate on. Of features and tasks, it has what concerns the model from this run.

    Attributes:
        path: The cache entry.
        fingerprint: What the arrays depend on, hashed.
        splits: `train`, `valid`, and where there are any, `test` and further evaluation splits.
        statistics: Plain values: rows, users, items, positive rates, ... See `funrec.data.preparation.statistics`.
        row_fingerprints: By split: a hash of row numbers, groups, labels and masks. Two runs with equal hashes are
            scored on the same rows, whatever their features.
        logit_offsets: What to add to a task's trained logit, because its negatives were downsampled.
    """

    path: Path
    fingerprint: str
    splits: Mapping[str, SplitArrays]
    statistics: Mapping[str, Any]
    row_fingerprints: Mapping[str, str]
    logit_offsets: Mapping[str, float] = field(default_factory=dict)

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


def open_split(folder: Path, sequences: Sequence[str]) -> SplitArrays:
    """Open one split's arrays, which `funrec.data.preparation.writing` wrote."""
    arrays = {path.stem: open_array(path) for path in folder.glob("*.npy")}
    lists = {
        name: SequenceArrays(arrays.pop(f"sequence_{place}_offsets"), arrays.pop(f"sequence_{place}_values"))
        for place, name in enumerate(sequences)
    }
    return SplitArrays(folder.name, sequences=lists, **arrays)


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


def save_inputs(data: PreparedData, folder: Path) -> None:
    """Write what `load_inputs` reads into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "features": [feature.to_plain() for feature in data.layout.features],
        "tasks": [asdict(task) for task in data.tasks],
        "domain": data.domain,
        **data.save(folder),
    }
    write_json(folder / INPUTS, state)


def load_inputs(folder: Path) -> ModelInputs:
    """Read what `save_inputs` wrote."""
    try:
        state = read_json(folder / INPUTS)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} should hold a model and its {INPUTS}. It does not: run it again.") from None
    features = [read_feature(values) for values in state["features"]]
    return ModelInputs.load(state, folder, features, [Task(**values) for values in state["tasks"]], state.get("domain"))
