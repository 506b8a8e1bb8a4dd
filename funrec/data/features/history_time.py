"""Times as whole numbers of one unit, and durations in that unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.utils.errors import InputError

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
#: The text formats that a time column may have, dates first.
_DATE_FORMATS = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d")
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S%.f")
#: Whole numbers in these ranges are read as seconds, milliseconds or microseconds since 1970 (years 2001 to 2100).
_EPOCH_UNITS = {1: "seconds", 1_000: "milliseconds", 1_000_000: "microseconds"}
#: What longer durations count as: no log is longer, and times less this much are still 64-bit numbers.
LONGEST = 1 << 62


@dataclass(frozen=True)
class TimeUnit:
    """What one step of a time column is.

    Attributes:
        name: `days`, `seconds`, `milliseconds`, `microseconds`, `nanoseconds`, or `steps` for plain numbers.
        per_day: Units in a day; None for plain numbers, whose unit is not known.
    """

    name: str
    per_day: int | None

    @property
    def is_days(self) -> bool:
        return self.per_day == 1

    def duration(self, key: str, value: float | str) -> int:
        """Return a duration such as `7d`, `36h` or a plain number of units; parts of a unit are rounded up."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value) or value < 0:
                raise InputError(f"{key} should be a duration of at least 0. Received: {value}.")
            return min(math.ceil(value), LONGEST)
        text = str(value).strip()
        parts = _DURATION.findall(text)
        if not parts or _DURATION.sub("", text).strip():
            raise InputError(f"{key} should be a duration such as 7d, 36h or 10m. Received: {value}.")
        if self.per_day is None:
            raise InputError(
                f"{key} should be a number of the time column's own steps, which are no dates or times. "
                f"Received: {value}."
            )
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return min(math.ceil(seconds * self.per_day / 86_400 - 1e-9), LONGEST)


DAYS = TimeUnit("days", 1)
STEPS = TimeUnit("steps", None)


def read_times(key: str, values: pl.Series) -> tuple[NDArray[np.int64], TimeUnit]:
    """Return a time column as whole numbers that count one unit.

    Dates (also as numbers, 20220425, and as text) count days, date-times their own unit, whole numbers since 1970
    seconds, milliseconds or microseconds, and all other whole numbers are steps of an unknown length.

    Args:
        key: The config key of the column, for messages.
        values: The column.
    """
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.null_count():
        row = values.is_null().arg_max() or 0
        raise InputError(
            f"{key} should be a time in every row. Received: a null, in row {row:,} (from 0) of "
            f"{values.null_count():,} such rows. Mend the column, or leave them out with dataset.history.where."
        )
    if values.dtype == pl.Date:
        return values.to_physical().cast(pl.Int64).to_numpy(), DAYS
    if isinstance(values.dtype, pl.Datetime):
        name, per_second = {
            "ms": ("milliseconds", 1_000),
            "us": ("microseconds", 1_000_000),
            "ns": ("nanoseconds", 1_000_000_000),
        }[values.dtype.time_unit]
        return values.to_physical().to_numpy(), TimeUnit(name, per_second * 86_400)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return read_times(key, _parse_text(key, values.cast(pl.String).str.strip_chars()))
    if not values.dtype.is_numeric():
        raise InputError(f"{key} should be a column of dates, times or numbers. Received: {values.dtype}.")
    return _read_numbers(key, values)


def _parse_text(key: str, texts: pl.Series) -> pl.Series:
    """Parse all texts by the one format that fits the first."""
    if texts.is_empty():
        return texts.cast(pl.Date)
    for dtype, formats in ((pl.Date, _DATE_FORMATS), (pl.Datetime("us"), _TIME_FORMATS)):
        for form in formats:
            if texts.head(1).str.strptime(dtype, form, strict=False).null_count():
                continue
            times = texts.str.strptime(dtype, form, strict=False)
            if times.null_count():
                row = times.is_null().arg_max() or 0
                raise InputError(
                    f"{key} should be written in one format, {form} as in row 0. Received: {texts[row]!r}, in row "
                    f"{row:,} (from 0)."
                )
            return times
    raise InputError(f"{key} should be a date or time such as 2024-01-31 or 2024-01-31 12:00. Received: {texts[0]!r}.")


def _read_numbers(key: str, values: pl.Series) -> tuple[NDArray[np.int64], TimeUnit]:
    whole = values.cast(pl.Int64, strict=False)
    is_odd = whole.is_null() | (whole.cast(pl.Float64) != values.cast(pl.Float64))
    if is_odd.any():
        row = is_odd.arg_max() or 0
        raise InputError(
            f"{key} should be whole numbers, dates or times. Received: {values[row]}, in row {row:,} (from 0)."
        )
    if whole.is_empty():
        return whole.to_numpy(), STEPS
    low, high = whole.min(), whole.max()
    if low >= 19_000_101 and high <= 21_001_231:  # type: ignore[operator]  # whole numbers, as checked above
        dates = whole.cast(pl.String).str.strptime(pl.Date, "%Y%m%d", strict=False)
        if not dates.null_count():
            return dates.to_physical().cast(pl.Int64).to_numpy(), DAYS
    for per_second, name in _EPOCH_UNITS.items():
        if 978_307_200 * per_second <= low and high <= 4_102_444_800 * per_second:  # type: ignore[operator]
            return whole.to_numpy(), TimeUnit(name, per_second * 86_400)
    return whole.to_numpy(), STEPS
