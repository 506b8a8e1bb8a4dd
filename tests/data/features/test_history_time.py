"""Time columns and durations."""

from __future__ import annotations

import datetime
from typing import Any

import polars as pl
import pytest

from funrec.data.features.history_time import DAYS, STEPS, TimeUnit, read_times
from funrec.utils.errors import InputError

SECOND_DAY = 19_783
AT_NOON = datetime.datetime(2024, 3, 1, 12)


@pytest.mark.parametrize(
    "values",
    [
        [20240229, 20240301],
        ["2024-02-29", "2024-03-01"],
        ["20240229", "20240301"],
        [datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)],
        [20240229.0, 20240301.0],
    ],
)
def test_dates_count_days_however_they_are_written(values: list[Any]) -> None:
    times, unit = read_times("dataset.time", pl.Series(values))
    assert (times.tolist(), unit) == ([SECOND_DAY - 1, SECOND_DAY], DAYS)


@pytest.mark.parametrize(
    ("values", "per_second"),
    [
        ([AT_NOON.isoformat(sep=" ")], 1_000_000),
        ([AT_NOON], 1_000_000),
        ([SECOND_DAY * 86_400 + 43_200], 1),
        ([(SECOND_DAY * 86_400 + 43_200) * 1_000], 1_000),
        ([(SECOND_DAY * 86_400 + 43_200) * 1_000_000], 1_000_000),
    ],
)
def test_times_count_the_unit_they_are_written_in(values: list[Any], per_second: int) -> None:
    times, unit = read_times("dataset.time", pl.Series(values))
    assert times.tolist() == [(SECOND_DAY * 86_400 + 43_200) * per_second]
    assert unit.per_day == 86_400 * per_second


def test_other_whole_numbers_are_steps_of_no_known_length() -> None:
    times, unit = read_times("dataset.time", pl.Series([3, 1, 20240301]))
    assert (times.tolist(), unit) == ([3, 1, 20240301], STEPS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([20240229, None, 20240301], r"should be a time in every row. Received: a null, in row 1 "),
        (["2024-02-29", "01.03.2024"], r"one format, %Y-%m-%d as in row 0. Received: '01.03.2024', in row 1 "),
        ([1.5, 2.0], r"should be whole numbers, dates or times. Received: 1.5, in row 0 "),
        (["Monday"], r"should be a date or time such as 2024-01-31 or 2024-01-31 12:00. Received: 'Monday'"),
        ([True], r"should be a column of dates, times or numbers. Received: Boolean"),
    ],
)
def test_a_column_that_is_no_time_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_times("dataset.time", pl.Series(values))


@pytest.mark.parametrize(
    ("value", "days", "seconds"),
    [("7d", 7, 604_800), ("1d12h", 2, 129_600), ("90 m", 1, 5_400), ("2w", 14, 1_209_600), (3, 3, 3), ("1ms", 1, 1)],
)
def test_a_duration_is_rounded_up_to_whole_units(value: Any, days: int, seconds: int) -> None:
    assert DAYS.duration("lag", value) == days
    assert TimeUnit("seconds", 86_400).duration("lag", value) == seconds


@pytest.mark.parametrize("value", ["7", "d7", "7 days", "", -1, float("nan"), True])
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="lag should be a duration"):
        DAYS.duration("lag", value)


@pytest.mark.parametrize("value", [1e30, "999999999999999d"])
def test_a_duration_longer_than_any_log_is_still_a_number_of_64_bits(value: Any) -> None:
    now = read_times("dataset.time", pl.Series([datetime.datetime(2024, 3, 1)]).cast(pl.Datetime("ns")))
    times, unit = now
    assert (times - unit.duration("lag", value) < 0).all()


def test_a_duration_in_days_needs_a_time_column_with_a_unit() -> None:
    with pytest.raises(InputError, match="a number of the time column's own steps"):
        STEPS.duration("lag", "7d")
