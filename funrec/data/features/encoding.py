"""How each feature is read from its raw column, and what it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.features.vocabulary import Vocabulary
from funrec.schema import Feature
from funrec.utils.errors import InputError, did_you_mean


def reading(feature: Feature, schema: Mapping[str, pl.DataType], is_list: bool = False) -> pl.Expr:
    """Return the expression that reads a feature's raw value, or list of values, from its column.

    A categorical feature takes the first value of a list; a sequence splits text at its separator.

    Args:
        feature: The feature.
        schema: The raw rows' dtypes.
        is_list: Whether the training rows held lists, so that text stands for a list written out.
    """
    column = pl.col(feature.column)
    dtype = schema[feature.column]
    if isinstance(dtype, pl.Array):
        column, dtype = column.arr.to_list(), pl.List(dtype.inner)
    if feature.kind == "sequence":
        if isinstance(dtype, pl.List):
            values = column.list.drop_nulls()
        elif dtype == pl.String:
            values = _split(column, feature.separator)
        else:
            values = pl.concat_list([column]).list.drop_nulls()
        return values.list.head(feature.max_length)
    if isinstance(dtype, pl.List):
        return column.list.get(0, null_on_oob=True)
    if is_list and dtype == pl.String:
        return _split(column, feature.separator).list.get(0, null_on_oob=True)
    return column


def _split(column: pl.Expr, separator: str) -> pl.Expr:
    text = pl.element().str.strip_chars()
    return column.str.split(separator).list.eval(text.filter(text != ""))


def as_number(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return a numeric feature's raw values as Float64: NaN where missing, null where they are no numbers at all."""
    if dtype == pl.String:
        values = values.str.strip_chars()
    number = values.cast(pl.Float64, strict=False)
    return pl.when(values.is_null()).then(float("nan")).otherwise(number)


def check_number_dtype(feature: Feature, dtype: pl.DataType) -> None:
    """Refuse a column that cannot hold numbers.

    Raises:
        InputError: If it holds neither numbers nor text that may stand for numbers.
    """
    if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Null)):
        raise InputError(
            f"dataset.features.{feature.name} should be a column of numbers. Received: column {feature.column} of "
            f"{dtype}. Set dataset.features.{feature.name}.kind=categorical, or derive a number first."
        )


@dataclass(frozen=True)
class Encoder:
    """Turns one feature's raw values into what the model reads; fixed by the training split.

    Attributes:
        feature: The feature; what concerns the model alone in it plays no part here.
        is_list: Whether the training rows held lists.
        owner: Name of the feature whose vocabulary is used: its own, or that of `share_with`; none for a number.
        mean: Mean of a number over the training split.
        scale: Its standard deviation there, or 1 where it is constant.
        boundaries: Cut points of a bucketed number: bucket `i` holds `boundaries[i-1] <= x < boundaries[i]`.
    """

    feature: Feature
    is_list: bool = False
    owner: str | None = None
    mean: float = 0.0
    scale: float = 1.0
    boundaries: tuple[float, ...] | None = None

    @property
    def is_number(self) -> bool:
        return self.feature.kind == "numeric" and not self.feature.is_bucketed

    @property
    def is_sequence(self) -> bool:
        return self.feature.kind == "sequence"

    def ids(self, values: pl.Series, vocabularies: Mapping[str, Vocabulary]) -> NDArray[np.int32]:
        """Return embedding rows, `(rows,)`."""
        if self.boundaries is not None:
            buckets = np.searchsorted(np.asarray(self.boundaries), self._numbers(values), side="right") + 1
            return buckets.astype(np.int32)
        return vocabularies[self._owner].encode(values)

    def number(self, values: pl.Series) -> NDArray[np.float32]:
        """Return standardised numbers, `(rows,)`."""
        return ((self._numbers(values) - self.mean) / self.scale).astype(np.float32)

    def sequence(
        self, values: pl.Series, vocabularies: Mapping[str, Vocabulary]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the lengths, `(rows,)`, and all embedding rows one after another."""
        lengths = values.list.len().fill_null(0).cast(pl.Int64).to_numpy()
        flat = values.explode().drop_nulls()
        return lengths, vocabularies[self._owner].encode(flat)

    @property
    def _owner(self) -> str:
        assert self.owner is not None
        return self.owner

    def _numbers(self, values: pl.Series) -> NDArray[np.float64]:
        feature = self.feature
        check_number_dtype(feature, values.dtype)
        frame = values.to_frame("value").select(
            "value", as_number(pl.col("value"), values.dtype).fill_nan(feature.fill).alias("number")
        )
        numbers = frame["number"]
        if numbers.null_count() or not numbers.is_finite().all():
            bad = frame.filter(pl.col("number").is_null() | ~pl.col("number").is_finite())["value"][0]
            raise bad_number(feature, bad)
        return numbers.to_numpy()

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads."""
        state = asdict(self)
        del state["feature"]
        return state

    @classmethod
    def from_json(cls, feature: Feature, state: Mapping[str, Any]) -> Encoder:
        boundaries = state["boundaries"]
        return cls(feature, **{**state, "boundaries": None if boundaries is None else tuple(boundaries)})


def bad_number(feature: Feature, value: object) -> InputError:
    """Return the error for a value of a numeric feature that is not a finite number."""
    where = f"dataset.features.{feature.name}"
    if value is None or value != value:
        return InputError(
            f"{where} should be a number in every row of column {feature.column}. Received: a null or NaN. "
            f"Say what stands in for it, {where}.fill=0, or leave such rows out with dataset.where."
        )
    return InputError(
        f"{where} should be a finite number in every row of column {feature.column}. Received: {value!r}. "
        f"Mend the column, or set {where}.kind=categorical."
    )


def missing_column(feature: Feature, columns: Sequence[str]) -> InputError:
    """Return the error for rows to encode that lack a feature's column."""
    return InputError(
        f"Rows should have column {feature.column}, which feature {feature.name} is read from."
        + did_you_mean(feature.column, columns)
    )


@dataclass(frozen=True)
class EncodedFeatures:
    """One batch of encoded features: as in `SplitArrays`, but sequences as lengths and values."""

    ids: NDArray[np.int32]
    numeric: NDArray[np.float32]
    sequences: dict[str, tuple[NDArray[np.int64], NDArray[np.int32]]]


def read_features(encoders: Mapping[str, Encoder], frame: pl.DataFrame) -> pl.DataFrame:
    """Select the columns `feature/<name>` from raw rows, as staging does.

    Raises:
        InputError: If a raw column is missing.
    """
    schema = frame.schema
    for encoder in encoders.values():
        if encoder.feature.column not in schema:
            raise missing_column(encoder.feature, frame.columns)
    return frame.select(
        reading(encoder.feature, schema, encoder.is_list).alias(f"feature/{name}") for name, encoder in encoders.items()
    )


def encode_features(
    encoders: list[Encoder], vocabularies: Mapping[str, Vocabulary], frame: pl.DataFrame
) -> EncodedFeatures:
    """Encode the columns `feature/<name>`: the one path from raw values to arrays.

    Raises:
        InputError: If a number is none.
    """
    columns = {encoder.feature.name: frame[f"feature/{encoder.feature.name}"] for encoder in encoders}
    id_encoders = [encoder for encoder in encoders if not encoder.is_number and not encoder.is_sequence]
    numbers = [encoder for encoder in encoders if encoder.is_number]
    ids = np.empty((frame.height, len(id_encoders)), dtype=np.int32)
    for place, encoder in enumerate(id_encoders):
        ids[:, place] = encoder.ids(columns[encoder.feature.name], vocabularies)
    numeric = np.empty((frame.height, len(numbers)), dtype=np.float32)
    for place, encoder in enumerate(numbers):
        numeric[:, place] = encoder.number(columns[encoder.feature.name])
    sequences = {
        encoder.feature.name: encoder.sequence(columns[encoder.feature.name], vocabularies)
        for encoder in encoders
        if encoder.is_sequence
    }
    return EncodedFeatures(ids, numeric, sequences)
