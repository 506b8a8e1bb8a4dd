"""Numbers: reading them, and the means, scales and cut points of the training split."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from funrec.schema import Feature
from funrec.utils.errors import InputError

ROWS_FOR_QUANTILES = 1_000_000


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


def quantiles(buckets: int, numbers: pl.LazyFrame, rows: int) -> tuple[float, ...]:
    """Return the cut points of equally filled buckets, from at most a million evenly spaced training rows.

    A cut lies just above the quantile, so that a value which most rows share gets a bucket of its own.
    """
    sample = numbers.gather_every(math.ceil(rows / ROWS_FOR_QUANTILES)).collect(engine="streaming")["number"].to_numpy()
    cuts = np.unique(np.nextafter(np.quantile(sample, np.arange(1, buckets) / buckets), np.inf))
    return tuple(float(cut) for cut in cuts if cut <= sample.max())
