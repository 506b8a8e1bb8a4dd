"""What the training split alone decides: vocabularies, means and scales, cut points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from funrec.data.features.encoding import Encoder, as_number, bad_number, check_number_dtype
from funrec.data.features.vocabulary import Vocabulary, common_key_dtype, key_dtype, learn_vocabulary
from funrec.data.preparation.staging import StagedFrame
from funrec.schema import Feature
from funrec.utils.errors import InputError

ROWS_FOR_QUANTILES = 1_000_000


def learn(features: Sequence[Feature], frames: Sequence[StagedFrame]) -> tuple[list[Encoder], dict[str, Vocabulary]]:
    """Learn each feature's encoder and each owner's vocabulary from the training rows.

    Returns:
        Encoders in the features' order, and vocabularies by the name of the feature that owns them.

    Raises:
        InputError: If there is no training row, a numeric column holds what is not a number, or a feature has no
            value that is seen `min_count` times.
    """
    train, schema, lists = _training_rows(frames)
    vocabularies = {}
    for feature in features:
        if feature.has_embedding and not feature.is_bucketed and feature.share_with is None:
            sharing = [feature, *(other for other in features if other.share_with == feature.name)]
            vocabularies[feature.name] = _learn_vocabulary(feature, sharing, train, schema)
    encoders = []
    for feature in features:
        dtype = schema[f"feature/{feature.name}"]
        if feature.kind == "numeric":
            encoders.append(_learn_numbers(feature, train, dtype))
        else:
            owner = feature.share_with or feature.name
            encoders.append(Encoder(feature, is_list=feature.column in lists, owner=owner))
    return encoders, vocabularies


def learn_codes(role: str, frames: Sequence[StagedFrame]) -> Vocabulary:
    """Return a vocabulary of every group or item in any split, in the order of the values."""
    column = pl.col(role)
    key = common_key_dtype([key_dtype(f"dataset.{role}", frame.schema[role]) for frame in frames])
    return learn_vocabulary([frame.rows.select(column.alias("value")) for frame in frames], key, by="value")


def _training_rows(frames: Sequence[StagedFrame]) -> tuple[pl.LazyFrame, pl.Schema, frozenset[str]]:
    for frame in frames:
        rows = frame.rows_of("train")
        if rows is not None and frame.counts["train"]:
            return rows, frame.schema, frame.lists
    raise InputError("The training split should have rows. It has none: widen dataset.split or dataset.where.")


def _value_dtype(feature: Feature, schema: pl.Schema) -> pl.DataType:
    dtype = schema[f"feature/{feature.name}"]
    return dtype.inner if isinstance(dtype, pl.List) else dtype  # type: ignore[return-value]  # a dtype instance


def _learn_vocabulary(owner: Feature, sharing: Sequence[Feature], train: pl.LazyFrame, schema: pl.Schema) -> Vocabulary:
    key = common_key_dtype([key_dtype(f"dataset.features.{f.name}", _value_dtype(f, schema)) for f in sharing])
    if owner.hash_buckets is not None:
        return Vocabulary(None, None, key, owner.hash_buckets)
    counted = []
    for feature in sharing:
        values = train.select(pl.col(f"feature/{feature.name}").alias("value"))
        if feature.kind == "sequence":
            values = values.explode("value").drop_nulls()
        counted.append(values)
    vocabulary = learn_vocabulary(counted, key, owner.min_count, owner.max_vocabulary)
    if len(vocabulary) == 1:
        raise InputError(
            f"dataset.features.{owner.name} should have a value that at least min_count={owner.min_count} training "
            "rows hold. It has none: lower min_count or drop the feature."
        )
    return vocabulary


def _learn_numbers(feature: Feature, train: pl.LazyFrame, dtype: pl.DataType) -> Encoder:
    check_number_dtype(feature, dtype)
    if feature.boundaries is not None:
        return Encoder(feature, boundaries=feature.boundaries)
    raw = pl.col(f"feature/{feature.name}")
    rows = train.select(raw.alias("value"), as_number(raw, dtype).fill_nan(feature.fill).alias("number"))
    number = pl.col("number")
    is_bad = number.is_null() | ~number.is_finite()
    found = rows.select(
        is_bad.fill_null(True).sum().alias("bad"),
        number.mean().alias("mean"),
        number.std(ddof=0).alias("scale"),
        pl.len().alias("rows"),
    ).collect(engine="streaming")
    if found["bad"][0]:
        raise bad_number(feature, rows.filter(is_bad).head(1).collect()["value"][0])
    if feature.quantiles is not None:
        return Encoder(feature, boundaries=_quantiles(feature.quantiles, rows.select("number"), found["rows"][0]))
    mean, scale = float(found["mean"][0]), float(found["scale"][0])
    # Rounding leaves a constant column a scale that is tiny but not 0.
    return Encoder(feature, mean=mean, scale=scale if scale > 1e-9 * max(1.0, math.fabs(mean)) else 1.0)


def _quantiles(buckets: int, numbers: pl.LazyFrame, rows: int) -> tuple[float, ...]:
    """Return the cut points of equally filled buckets, from at most a million evenly spaced training rows.

    A cut lies just above the quantile, so that a value which most rows share gets a bucket of its own.
    """
    sample = numbers.gather_every(math.ceil(rows / ROWS_FOR_QUANTILES)).collect(engine="streaming")["number"].to_numpy()
    cuts = np.unique(np.nextafter(np.quantile(sample, np.arange(1, buckets) / buckets), np.inf))
    return tuple(float(cut) for cut in cuts if cut <= sample.max())
