"""What an exported model reads: one input per feature, with the values that stand for nulls and padding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from funrec.data.arrays import ModelInputs
from funrec.data.features.encoding import Encoder, as_number, read_features
from funrec.data.features.vocabulary import Vocabulary
from funrec.data.hashing import as_keys

#: Stand for a null, and fill a list up; the second for a value that is no whole number, which no vocabulary knows.
NULL_ID, NOT_AN_ID = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1
NULL_TEXT = "\ufdd0"
PADDING_ROW = -1

DTYPES = {"id": np.int64, "text": np.object_, "row": np.int64, "number": np.float64}
HOW = {
    "id": f"a whole number; {NULL_ID} for a null and to fill a list up",
    "text": "UTF-8 text; the one character U+FDD0 for a null and to fill a list up",
    "row": f"the embedding row, which `funrec` computes (hashed or fractional ids); {PADDING_ROW} fills a list up",
    "number": "a number; NaN where it is missing",
}


@dataclass(frozen=True)
class Input:
    """One input of an exported model.

    Attributes:
        name: The feature's name.
        column: The raw column that it is read from.
        kind: `id`, `text` or `row` for what is looked up, or `number`.
        length: Values per row of a list; None for one value per row.
        is_computed: Whether `funrec` computes it from other columns or rows beforehand.
    """

    name: str
    column: str
    kind: Literal["id", "text", "row", "number"]
    length: int | None
    is_computed: bool

    def to_json(self) -> dict[str, Any]:
        """Return what a reader of `export.json` needs to know."""
        return {**asdict(self), "value": HOW[self.kind]}

    @property
    def shape(self) -> list[int | None]:
        """Rows, and the values of each if it is a list."""
        return [None] if self.length is None else [None, self.length]


def describe_inputs(inputs: ModelInputs) -> list[Input]:
    """Return a model's inputs, in the order of its features."""
    described = []
    for name, encoder in inputs.encoders.items():
        feature = encoder.feature
        kind = _kind(encoder, inputs)
        length = feature.max_length if encoder.is_sequence else None  # type: ignore[attr-defined]
        column = name if feature.is_history else feature.column
        described.append(Input(name, column, kind, length, feature.is_history or kind == "row"))
    return described


def _kind(encoder: Encoder, inputs: ModelInputs) -> Any:
    if encoder.feature.kind == "numeric" or encoder.owner is None:
        return "number"
    vocabulary = inputs.vocabularies[encoder.owner]
    if vocabulary.hash_buckets is not None:
        return "row"
    return {"Int64": "id", "String": "text"}.get(vocabulary.key, "row")


def lookups(vocabulary: Vocabulary, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of a vocabulary as an input gives them, and their embedding rows."""
    keys = vocabulary.keys.fill_null(NULL_ID if kind == "id" else NULL_TEXT)
    return keys.to_numpy().astype(DTYPES[kind]), np.arange(1, len(keys) + 1, dtype=np.int64)


def read_inputs(inputs: ModelInputs, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return raw rows as an exported model's inputs.

    Raises:
        InputError: If a feature's column is missing.
    """
    if inputs.history is not None:
        frame = inputs.history.complete(frame)
    columns = read_features(inputs.encoders, frame)
    return {one.name: _values(one, columns[f"feature/{one.name}"], inputs) for one in describe_inputs(inputs)}


def _values(one: Input, values: pl.Series, inputs: ModelInputs) -> np.ndarray:
    if one.kind == "number":
        return values.to_frame("x").select(as_number(pl.col("x"), values.dtype)).to_series().to_numpy()
    vocabulary = inputs.vocabularies[inputs.encoders[one.name].owner or ""]
    if one.length is None:
        return _keys(values, one.kind, vocabulary)
    padding: Any = {"id": NULL_ID, "text": NULL_TEXT, "row": PADDING_ROW}[one.kind]
    padded: Any = np.full((len(values), one.length), padding, DTYPES[one.kind])
    lengths = values.list.len().fill_null(0).to_numpy()
    padded[np.arange(one.length) < lengths[:, None]] = _keys(values.explode().drop_nulls(), one.kind, vocabulary)
    return padded


def _keys(values: pl.Series, kind: str, vocabulary: Vocabulary) -> np.ndarray:
    if kind == "row":
        return vocabulary.encode(values).astype(np.int64)
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    keys = values.to_frame("x").select(as_keys(pl.col("x"), values.dtype, vocabulary.key)).to_series()
    if kind == "text":
        return keys.fill_null(NULL_TEXT).to_numpy().astype(np.object_)
    is_null = values.is_null().to_numpy()
    if values.dtype.is_float():
        is_null = is_null | values.is_nan().fill_null(True).to_numpy()
    return np.where(keys.is_null().to_numpy(), np.where(is_null, NULL_ID, NOT_AN_ID), keys.fill_null(0).to_numpy())


def cuts_below(encoder: Encoder) -> np.ndarray:
    """Return, for every cut point, the number just below it: `x >= cut` where `x > below`.

    Quantiles make cuts just above a value that many rows share; just above 0, TensorFlow would take such a cut for 0.
    """
    return np.nextafter(np.asarray(encoder.boundaries, np.float64), -np.inf)
