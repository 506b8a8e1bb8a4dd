"""How each feature is read from its raw column, and what it becomes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.expressions import is_number
from funrec.data.features.vocabulary import Vocabulary, count_vocabulary
from funrec.data.hashing import common_key_dtype, key_dtype
from funrec.schema import CategoricalFeature, Feature, NumericFeature, SequenceFeature
from funrec.utils.errors import InputError, did_you_mean

ROWS_FOR_QUANTILES = 1_000_000


def reading(feature: Feature, schema: Mapping[str, pl.DataType], is_list: bool = False) -> pl.Expr:
    """Return the expression that reads a feature's raw value, or list of values, from its column.

    A categorical feature takes the first value of a list, or, where `is_list` says that the training rows held lists,
    of a text; a sequence splits text at its separator.
    """
    column = pl.col(feature.column)
    dtype = schema[feature.column]
    if isinstance(dtype, pl.Array):
        column, dtype = column.arr.to_list(), pl.List(dtype.inner)
    if isinstance(feature, SequenceFeature):
        if isinstance(dtype, pl.List):
            values = column if feature.events else column.list.drop_nulls()
        elif dtype == pl.String:
            values = _split(column, feature.separator)
        else:
            values = pl.concat_list([column]).list.drop_nulls()
        return values.list.head(feature.max_length)
    if isinstance(dtype, pl.List):
        return column.list.get(0, null_on_oob=True)
    if is_list and dtype == pl.String and isinstance(feature, CategoricalFeature):
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


def _check_number_dtype(feature: Feature, dtype: pl.DataType) -> None:
    if not (is_number(dtype) or dtype == pl.String):
        raise InputError(
            f"dataset.features.{feature.name} should be a column of numbers. Received: column {feature.column} of "
            f"{dtype}. Set dataset.features.{feature.name}.kind=categorical, or derive a number first."
        )


def _bad_number(feature: Feature, value: object) -> InputError:
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


def _quantiles(buckets: int, numbers: pl.LazyFrame, rows: int) -> tuple[float, ...]:
    """Return the cut points of equally filled buckets, from at most a million evenly spaced training rows.

    A cut lies just above the quantile, so that a value which most rows share gets a bucket of its own.
    """
    sample = numbers.gather_every(math.ceil(rows / ROWS_FOR_QUANTILES)).collect(engine="streaming")["number"].to_numpy()
    cuts = np.unique(np.nextafter(np.quantile(sample, np.arange(1, buckets) / buckets), np.inf))
    return tuple(float(cut) for cut in cuts if cut <= sample.max())


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
    boundaries: Sequence[float] | None = None

    @property
    def is_number(self) -> bool:
        return self.feature.kind == "numeric" and not self.feature.is_bucketed

    @property
    def is_sequence(self) -> bool:
        return self.feature.kind == "sequence"

    def ids(self, values: pl.Series, vocabularies: Mapping[str, Vocabulary]) -> NDArray[np.int32]:
        """Return embedding rows, `(rows,)`; 0, which no bucket has, for the missing number of a history."""
        if self.boundaries is not None:
            numbers = self._numbers(values)
            buckets = np.searchsorted(np.asarray(self.boundaries), numbers, side="right") + 1
            return np.where(np.isnan(numbers), 0, buckets).astype(np.int32)
        return vocabularies[self._owner].encode(values)

    def number(self, values: pl.Series) -> NDArray[np.float32]:
        """Return standardised numbers, `(rows,)`; 0, exactly the mean, for the missing number of a history."""
        return np.nan_to_num((self._numbers(values) - self.mean) / self.scale).astype(np.float32)

    def sequence(
        self, values: pl.Series, vocabularies: Mapping[str, Vocabulary]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the lengths, `(rows,)`, and all embedding rows one after another."""
        lengths = values.list.len().fill_null(0).cast(pl.Int64).to_numpy()
        flat = values.filter(values.list.len() > 0).explode()
        return lengths, vocabularies[self._owner].encode(flat)

    @property
    def _owner(self) -> str:
        assert self.owner is not None
        return self.owner

    def _numbers(self, values: pl.Series) -> NDArray[np.float64]:
        feature = self.feature
        assert isinstance(feature, NumericFeature)
        _check_number_dtype(feature, values.dtype)
        frame = values.to_frame("value").select(
            "value", as_number(pl.col("value"), values.dtype).fill_nan(feature.fill).alias("number")
        )
        numbers = frame["number"]
        if feature.is_history:
            return numbers.to_numpy()
        if numbers.null_count() or not numbers.is_finite().all():
            bad = frame.filter(pl.col("number").is_null() | ~pl.col("number").is_finite())["value"][0]
            raise _bad_number(feature, bad)
        return numbers.to_numpy()


def check_columns(encoders: Mapping[str, Encoder], known: Collection[str]) -> None:
    """Refuse rows to encode that lack a feature's raw column."""
    for feature in (encoder.feature for encoder in encoders.values()):
        if feature.column not in known and not feature.is_history:
            raise InputError(
                f"Rows should have column {feature.column}, which feature {feature.name} is read from."
                + did_you_mean(feature.column, known)
            )


def read_features(encoders: Mapping[str, Encoder], frame: pl.DataFrame) -> pl.DataFrame:
    """Select the columns `feature/<name>` from raw rows, as staging does."""
    schema = frame.schema
    check_columns(encoders, schema)
    return frame.select(
        reading(encoder.feature, schema, encoder.is_list).alias(f"feature/{name}") for name, encoder in encoders.items()
    )


def fit_encoders(
    features: Sequence[Feature], train: pl.LazyFrame, schema: pl.Schema, lists: frozenset[str]
) -> tuple[dict[str, Encoder], dict[str, Vocabulary]]:
    """Fit each feature's encoder and each owner's vocabulary to the columns `feature/<name>` of the training rows.

    Returns:
        Encoders in the features' order, and vocabularies by the name of the feature that owns them.

    Raises:
        InputError: If a numeric column holds what is not a number, or a feature has no value that is seen `min_count`
            times.
    """
    vocabularies = {}
    for feature in features:
        if isinstance(feature, CategoricalFeature) and feature.share_with is None:
            sharing = [feature, *(other for other in features if other.share_with == feature.name)]
            vocabularies[feature.name] = _fit_vocabulary(feature, sharing, train, schema)
    encoders = {}
    for feature in features:
        dtype = schema[f"feature/{feature.name}"]
        if isinstance(feature, NumericFeature):
            encoders[feature.name] = _fit_numbers(feature, train, dtype)
        else:
            owner = feature.share_with or feature.name
            encoders[feature.name] = Encoder(feature, is_list=feature.column in lists, owner=owner)
    return encoders, vocabularies


def _value_dtype(feature: Feature, schema: pl.Schema) -> pl.DataType:
    dtype = schema[f"feature/{feature.name}"]
    return dtype.inner if isinstance(dtype, pl.List) else dtype  # type: ignore[return-value]  # a dtype instance


def _fit_vocabulary(
    owner: CategoricalFeature, sharing: Sequence[Feature], train: pl.LazyFrame, schema: pl.Schema
) -> Vocabulary:
    key = common_key_dtype([key_dtype(f"dataset.features.{f.name}", _value_dtype(f, schema)) for f in sharing])
    if owner.hash_buckets is not None:
        return Vocabulary(None, None, key, owner.hash_buckets)
    counted = []
    for feature in sharing:
        values = train.select(pl.col(f"feature/{feature.name}").alias("value"))
        if feature.kind == "sequence":
            values = values.explode("value").drop_nulls()
        counted.append(values)
    vocabulary = count_vocabulary(counted, key, owner.min_count, owner.max_vocabulary)
    if len(vocabulary) == 1:
        raise InputError(
            f"dataset.features.{owner.name} should have a value that at least min_count={owner.min_count} training "
            "rows hold. It has none: lower min_count or drop the feature."
        )
    return vocabulary


def _fit_numbers(feature: NumericFeature, train: pl.LazyFrame, dtype: pl.DataType) -> Encoder:
    _check_number_dtype(feature, dtype)
    if feature.boundaries is not None:
        return Encoder(feature, boundaries=feature.boundaries)
    raw = pl.col(f"feature/{feature.name}")
    rows = train.select(raw.alias("value"), as_number(raw, dtype).fill_nan(feature.fill).alias("number"))
    number = pl.col("number")
    if feature.is_history:
        rows = rows.filter(number.is_not_nan())
    is_bad = number.is_null() | ~number.is_finite()
    found = rows.select(
        is_bad.fill_null(True).sum().alias("bad"),
        number.mean().alias("mean"),
        number.std(ddof=0).alias("scale"),
        pl.len().alias("rows"),
    ).collect(engine="streaming")
    if found["bad"][0]:
        raise _bad_number(feature, rows.filter(is_bad).head(1).collect()["value"][0])
    if not found["rows"][0]:
        raise InputError(
            f"dataset.features.{feature.name} should have a value in some training row. It has none: no training row "
            "sees an earlier one of its key. Widen dataset.split, or look at its `by`, `where` and lag."
        )
    if feature.quantiles is not None:
        return Encoder(feature, boundaries=_quantiles(feature.quantiles, rows.select("number"), found["rows"][0]))
    mean, scale = float(found["mean"][0]), float(found["scale"][0])
    # Rounding leaves a constant column a scale that is tiny but not 0.
    return Encoder(feature, mean=mean, scale=scale if scale > 1e-9 * max(1.0, math.fabs(mean)) else 1.0)
