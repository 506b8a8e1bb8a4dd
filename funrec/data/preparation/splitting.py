"""How rows are divided into splits and thinned out, and which split a row falls into."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.hashing import key_dtype, stable_hash, uniform
from funrec.schema import SplitRule, Task
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import Name, check, worded

if TYPE_CHECKING:
    from funrec.data.datasets.base import Dataset

#: Split names by code; other evaluation splits come as frames of their own.
SPLIT_NAMES = ("train", "valid", "test", "calibrate")
#: What a row's code says where the row fits into no split.
MISSING_VALUE, ODD_VALUE = -1, -2

_COLUMN_VALUES = {
    "train": 0,
    "training": 0,
    "valid": 1,
    "val": 1,
    "validation": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
    "calibrate": 3,
    "calibration": 3,
}


@dataclass(frozen=True, slots=True)
class Downsample:
    """Which training rows are kept: all, except that of those where `task`'s label is 0 a share of `rate`."""

    task: Name
    rate: Annotated[float, worded("above 0 and at most 1", lambda rate: 0 < rate <= 1)]


def build_split(config: Mapping[str, Any]) -> SplitRule:
    """Turn `dataset.split` into a checked rule."""
    rule = SplitRule(**check(SplitRule, config, "dataset.split", ignore_nulls=True))
    if (rule.valid or 0) + (rule.test or 0) + (rule.calibrate or 0) >= 1:
        raise InputError(
            "dataset.split.valid, test and calibrate should leave rows to train on. "
            f"Received: {rule.valid} + {rule.test} + {rule.calibrate}."
        )
    return rule


def build_downsample(config: Mapping[str, Any] | None, tasks: Sequence[Task]) -> Downsample | None:
    """Turn `dataset.downsample` into a checked value; None, or a rate of 1, keeps every row.

    Raises:
        InputError: If a key is unknown, the task is not binary or its labels come late, or the rate is not in (0, 1].
    """
    if not config or all(value is None for value in config.values()):
        return None
    rule = Downsample(**check(Downsample, config, "dataset.downsample", ignore_nulls=True))
    binary = [known.name for known in tasks if known.kind == "binary" and known.observed_after is None]
    if rule.task not in binary:
        raise InputError(
            f"dataset.downsample.task should name a binary task whose labels are not late. Received: {rule.task}."
            + did_you_mean(rule.task, binary)
        )
    return None if rule.rate == 1 else rule


def split_column(dataset: Dataset) -> str | None:
    """Return the column that the split rule reads; none for `random`, which reads the row's number."""
    rule = dataset.split
    fallback = {"time": dataset.time, "group": dataset.group, "random": None, "column": None}[rule.by]
    column = rule.column or fallback
    if column is None and rule.by != "random":
        also = f" or dataset.{rule.by}" if rule.by != "column" else ""
        raise InputError(f"dataset.split.column{also} should name a column to split by {rule.by}. Received: none.")
    return column


def split_code(dataset: Dataset, rows: pl.LazyFrame, schema: pl.Schema, row: str) -> pl.Expr:
    """Return each row's split as its place in `SPLIT_NAMES`, or `MISSING_VALUE`, or `ODD_VALUE`."""
    rule = dataset.split
    column = split_column(dataset) or row
    if rule.by == "time":
        return _code_by_time(dataset, column, schema[column])
    if rule.by == "column":
        values = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase()
        code = values.replace_strict(_COLUMN_VALUES, default=ODD_VALUE, return_dtype=pl.Int8)
        return pl.when(values.is_null()).then(pl.lit(MISSING_VALUE, pl.Int8)).otherwise(code)
    if rule.valid is None:
        raise InputError(
            f"dataset.split.valid should be a share between 0 and 1 to split by {rule.by}. Received: none."
        )
    key = "UInt64" if rule.by == "random" else key_dtype("dataset.split.column", schema[column])

    def draw(values: pl.Series) -> NDArray[np.float64]:
        keys = values.cast(pl.UInt64).to_numpy() if rule.by == "random" else stable_hash(values, key)
        return uniform(keys, rule.seed, "split")

    shares = np.array([rule.valid, rule.test or 0.0, rule.calibrate or 0.0])
    bounds = np.cumsum(shares)
    if rule.by == "group":
        draws = draw(rows.select(pl.col(column).unique()).collect(engine="streaming")[column])
        bounds = _bounds(np.sort(draws), shares)

    def code_of(values: pl.Series) -> pl.Series:
        places = np.searchsorted(bounds, draw(values), side="right")
        return pl.Series(np.array([1, 2, 3, 0], np.int8)[places])

    return pl.col(column).map_batches(code_of, return_dtype=pl.Int8, is_elementwise=True)


def _bounds(draws: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the draws below which a group is in the splits of these shares, one after the other."""
    counts = np.cumsum(np.rint(shares * len(draws)).astype(int))
    return np.append(draws, 1.0)[np.minimum(counts, len(draws))]


def _code_by_time(dataset: Dataset, column: str, dtype: pl.DataType) -> pl.Expr:
    rule = dataset.split
    if rule.valid_from is None:
        raise InputError("dataset.split.valid_from should say where validation begins. Received: none.")
    value = pl.col(column)
    if dtype.is_float():
        value = value.fill_nan(None)
    code = pl.when(value >= time_bound("valid_from", rule.valid_from, column, dtype)).then(1).otherwise(0)
    for key, start, its in (("calibrate_from", rule.calibrate_from, 3), ("test_from", rule.test_from, 2)):
        if start is not None:
            code = pl.when(value >= time_bound(key, start, column, dtype)).then(its).otherwise(code)
    if dtype == pl.String:
        # Text sorts in time order only when it begins with the year.
        code = pl.when(value.str.contains(r"^\s*\d{4}")).then(code).otherwise(ODD_VALUE)
    return pl.when(value.is_null()).then(MISSING_VALUE).otherwise(code).cast(pl.Int8)


def time_bound(key: str, value: Any, column: str, dtype: pl.DataType) -> pl.Expr:
    """Return `valid_from` or another bound as a literal that compares with the column."""
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    try:
        if isinstance(value, bool):
            raise ValueError
        if dtype.is_numeric():
            return pl.lit(value if isinstance(value, int | float) else float(text.replace("_", "")))
        if dtype == pl.String:
            return pl.lit(text)
        if dtype in (pl.Date, pl.Datetime):
            moment = datetime.datetime.fromisoformat(text)
            return pl.lit(moment.date() if dtype == pl.Date else moment).cast(dtype)
    except ValueError:
        raise InputError(
            f"dataset.split.{key} should be written as column {column} is ({dtype}; 20220508, 2022-05-08, ...). "
            f"Received: {value}."
        ) from None
    raise InputError(f"dataset.split: column {column} should hold numbers, dates or ISO text. Received: {dtype}.")
