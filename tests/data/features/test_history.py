"""Histories against Python loops over the raw log, and the property that no row sees its own time or later."""

from __future__ import annotations

import datetime
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from funrec.data.features import history_engine
from funrec.data.features.history import HistorySpec
from funrec.data.features.history_engine import compute_histories
from funrec.data.features.history_log import LogPart, stage_log
from funrec.utils.errors import InputError

ROWS = 1_200
KEYS: dict[str, tuple[str, ...]] = {"viewer": ("viewer",), "viewer_tag": ("viewer", "tag"), "seventh": ("viewer % 7",)}
STATISTICS: dict[str, dict[str, Any]] = {
    "count": {"count": True},
    "rate": {"rate": "click", "smoothing": 5},
    "rate_raw": {"rate": "watched > 100", "smoothing": 0},
    "mean": {"mean": "watched"},
    "sum": {"sum": "watched * 0.1"},
    "distinct": {"distinct": "tag"},
    "since": {"since": "last"},
    "last": {"last": 3, "of": ["item", "tag"]},
}
WHERE: dict[str, str | None] = {"all": None, "short": "watched <= 150"}


@pytest.fixture
def log() -> pl.DataFrame:
    """Return 1,200 rows on 25 days: keys with nulls, many rows of one day, some rows twice, in no order of time."""
    draw = np.random.default_rng(7)
    days = draw.integers(0, 25, ROWS)
    frame = pl.DataFrame(
        {
            "day": [datetime.date(2024, 2, 20) + datetime.timedelta(days=int(day)) for day in days],
            "second": 1_700_000_000 + days * 86_400 + draw.integers(0, 40, ROWS) * 2_000,
            "viewer": pl.Series([None if user == 0 else int(user) for user in draw.integers(0, 40, ROWS)]),
            "tag": pl.Series([None if tag == "e" else tag for tag in draw.choice(list("abcde"), ROWS)]),
            "item": draw.integers(0, 300, ROWS),
            "click": pl.Series([None if c == 2 else int(c) for c in draw.choice([0, 1, 2], ROWS, p=[0.6, 0.35, 0.05])]),
            "watched": np.where(draw.random(ROWS) < 0.05, np.nan, draw.exponential(200, ROWS)),
        }
    )
    return pl.concat([frame.head(ROWS - 100), frame.sample(100, seed=1)])


def compute(
    log: pl.DataFrame,
    specs: Sequence[HistorySpec],
    folder: Path,
    time: str = "day",
    lag: Any = None,
    until: str = "row",
    parts: Sequence[LogPart] | None = None,
) -> dict[str, list[Any]]:
    """Return every history's values: numbers, None where there is none, and for sequences lists of (age, values)."""
    folder.mkdir()
    trains = pl.col(time) < log[time].quantile(0.7) if until == "train_end" else pl.lit(True)
    stage_log(parts or [LogPart(log.lazy(), pl.lit(True), trains)], specs, time, folder / "log.arrow")
    found = compute_histories(folder / "log.arrow", specs, folder, lag, until)
    values: dict[str, list[Any]] = {
        name: [None if math.isnan(number) else number for number in numbers.tolist()]
        for name, numbers in found.numbers.items()
    }
    for name, sequence in found.sequences.items():
        events = sequence.events.collect().rows()
        starts, lengths = sequence.starts.tolist(), sequence.lengths.tolist()
        values[name] = [events[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    return values


def every_spec(windows: Sequence[Any]) -> list[HistorySpec]:
    return [
        HistorySpec.read(
            f"{key}/{statistic}/{where}/{window}", {"by": KEYS[key], "where": WHERE[where], "window": window, **what}
        )
        for key, (statistic, what), where, window in itertools.product(KEYS, STATISTICS.items(), WHERE, windows)
    ]


class Loop:
    """The same statistics by plain loops."""

    def __init__(self, log: pl.DataFrame, times: list[int], lag: int, per_day: int, end: int | None = None) -> None:
        self.rows, self.times, self.lag, self.per_day = log.rows(named=True), times, lag, per_day
        self.now = times if end is None else [min(time, end + lag) for time in times]
        self.seen_by: dict[Any, list[list[int]]] = {}
        self.priors: dict[Any, float | None] = {}

    def values(self, spec: HistorySpec, window: int | None) -> list[Any]:
        key = spec.name.split("/")[0]
        if (key, window, spec.where) not in self.seen_by:
            by_key = defaultdict(list)
            for place, row in enumerate(self.rows):
                by_key[self.key(key, row)].append(place)
            self.seen_by[key, window, spec.where] = [
                self.seen(place, by_key[self.key(key, row)], window, spec.where) for place, row in enumerate(self.rows)
            ]
        seen_by = self.seen_by[key, window, spec.where]
        return [self.value(spec, place, seen) for place, seen in enumerate(seen_by)]

    @staticmethod
    def key(name: str, row: dict[str, Any]) -> Any:
        if name == "seventh":
            return None if row["viewer"] is None else row["viewer"] % 7
        return (row["viewer"], row["tag"]) if name == "viewer_tag" else row["viewer"]

    def seen(self, place: int, among: Sequence[int], window: int | None, where: str | None) -> list[int]:
        now = self.now[place]
        found = [
            other
            for other in among
            if self.times[other] <= now - self.lag
            and (window is None or self.times[other] >= now - window)
            and (where is None or self.rows[other]["watched"] <= 150)
        ]
        return sorted(found, key=lambda other: self.times[other])

    def value(self, spec: HistorySpec, place: int, seen: list[int]) -> Any:
        read: Callable[[int], Any] = lambda other: self.rows[other]["watched"]  # noqa: E731
        match spec.name.split("/")[1]:
            case "count":
                return len(seen)
            case "distinct":
                return len({self.rows[other]["tag"] for other in seen} - {None})
            case "since":
                return (self.times[place] - self.times[seen[-1]]) / self.per_day if seen else None
            case "last":
                return [(self.rows[o]["item"], self.rows[o]["tag"], self.times[o]) for o in seen[-3:]]
            case "sum":
                return math.fsum(read(other) * 0.1 for other in seen if not math.isnan(read(other)))
            case "mean":
                numbers = [read(other) for other in seen if not math.isnan(read(other))]
            case "rate":
                numbers = [self.rows[other]["click"] for other in seen if self.rows[other]["click"] is not None]
                prior = self.prior(place, spec.where)
                return None if prior is None else (sum(numbers) + 5 * prior) / (len(numbers) + 5)
            case "rate_raw":
                numbers = [not read(other) <= 100 for other in seen]  # SQL orders NaN above all numbers
        return math.fsum(numbers) / len(numbers) if numbers else None

    def prior(self, place: int, where: str | None) -> float | None:
        now = self.now[place], where
        if now not in self.priors:
            clicks = [self.rows[other]["click"] for other in self.seen(place, range(len(self.rows)), None, where)]
            known = [click for click in clicks if click is not None]
            self.priors[now] = sum(known) / len(known) if known else None
        return self.priors[now]


def check(found: dict[str, list[Any]], specs: Sequence[HistorySpec], loop: Loop, ticks: dict[Any, int]) -> None:
    for spec in specs:
        expected = loop.values(spec, None if spec.window is None else ticks[spec.window])
        if spec.is_sequence:
            assert found[spec.name] == expected, spec.name
            assert any(len(values) == 3 for values in expected)
            continue
        assert [value is None for value in found[spec.name]] == [value is None for value in expected], spec.name
        numbers = [[value for value in values if value is not None] for values in (found[spec.name], expected)]
        np.testing.assert_allclose(*numbers, rtol=2e-7, err_msg=spec.name)
        assert len(set(numbers[1])) > 1, f"{spec.name} says nothing"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide the keys of a small log as those of a large one are."""
    monkeypatch.setattr(history_engine, "ROWS_PER_PART", 700)
    monkeypatch.setattr(history_engine, "ROWS_PER_BATCH", 600)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("lag", "until"), [(None, "row"), ("3d", "row"), (2, "train_end")])
def test_histories_over_dates_equal_a_loop_over_the_log(
    log: pl.DataFrame, tmp_path: Path, lag: Any, until: str
) -> None:
    specs = every_spec([None, "7d", 4])
    found = compute(log, specs, tmp_path / "work", lag=lag, until=until)
    times = [day.toordinal() - datetime.date(1970, 1, 1).toordinal() for day in log["day"]]
    end = max(t for t, day in zip(times, log["day"], strict=True) if day < log["day"].quantile(0.7).date())
    steps = {None: 1, "3d": 3, 2: 2}[lag]
    loop = Loop(log, times, steps, per_day=1, end=end if until == "train_end" else None)
    check(found, specs, loop, {"7d": 7, 4: 4})


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("lag", [0, "90m"])
def test_histories_over_seconds_equal_a_loop_over_the_log(log: pl.DataFrame, tmp_path: Path, lag: Any) -> None:
    specs = every_spec([None, "36h"])
    found = compute(log, specs, tmp_path / "work", time="second", lag=lag)
    loop = Loop(log, log["second"].to_list(), {0: 1, "90m": 5_400}[lag], per_day=86_400)
    check(found, specs, loop, {"36h": 129_600})


@pytest.mark.usefixtures("small_parts")
def test_a_history_may_have_a_time_and_an_end_of_its_own(log: pl.DataFrame, tmp_path: Path) -> None:
    position = {"by": "viewer", "count": True, "window": "1d", "time": "second", "lag": 0, "until": "row"}
    specs = [HistorySpec.read("position", position), HistorySpec.read("clicks", {"by": "viewer", "rate": "click"})]
    both = compute(log, specs, tmp_path / "both", until="train_end")
    alone = [HistorySpec.read("position", {**position, "time": None})]
    assert both["position"] == compute(log, alone, tmp_path / "alone", time="second", lag=0)["position"]
    assert both["clicks"] == compute(log, specs[1:], tmp_path / "frozen", until="train_end")["clicks"]


def test_no_training_row_sees_a_later_day_through_a_finer_time(log: pl.DataFrame, tmp_path: Path) -> None:
    # An evaluation row whose seconds say that it came first of all.
    ends = log["day"].quantile(0.7)
    odd = log.with_columns(second=pl.when(pl.col("day") > ends).then(0).otherwise("second"))
    spec = HistorySpec.read("position", {"by": "viewer", "count": True, "time": "second", "lag": 0, "until": "row"})
    parts = [LogPart(frame.lazy(), pl.lit(True), pl.col("day") < ends) for frame in (log, odd)]
    counts = [compute(log, [spec], tmp_path / str(i), parts=[part])["position"] for i, part in enumerate(parts)]
    trains = (log["day"] < ends).to_list()
    assert [n for n, is_in in zip(counts[0], trains, strict=True) if is_in] == [
        n for n, is_in in zip(counts[1], trains, strict=True) if is_in
    ]
    assert counts[0] != counts[1]


def test_the_order_of_the_files_rows_does_not_matter(log: pl.DataFrame, tmp_path: Path) -> None:
    # Sequences keep the log's order among rows of one time, so here every row has a time of its own.
    log = log.unique("second", keep="first", maintain_order=True)
    specs = every_spec([None, "48h"])
    first = compute(log, specs, tmp_path / "first", time="second", lag="1h")
    order = np.random.default_rng(3).permutation(log.height)
    shuffled = compute(log[order], specs, tmp_path / "shuffled", time="second", lag="1h")
    by_time = compute(log.sort("second"), specs, tmp_path / "sorted", time="second", lag="1h")
    places = log["second"].arg_sort().to_list()
    for spec in specs:
        assert shuffled[spec.name] == [first[spec.name][place] for place in order], spec.name
        assert by_time[spec.name] == [first[spec.name][place] for place in places], spec.name


def test_a_row_sees_the_past_of_its_key_and_nothing_else(log: pl.DataFrame, tmp_path: Path) -> None:
    specs = every_spec([None, "7d"])
    before = compute(log, specs, tmp_path / "before", lag="2d")
    draw = np.random.default_rng(5)
    moved = set()
    for number, changed in enumerate(draw.choice(log.height, 8, replace=False).tolist()):
        at = log["day"][changed]
        altered = log.with_columns(
            pl.when(pl.int_range(pl.len()) == changed).then(new).otherwise(old).alias(name)
            for name, old, new in (
                ("click", pl.col("click"), 1 - pl.col("click").fill_null(0)),
                ("watched", pl.col("watched"), pl.when(pl.col("watched") > 120).then(60.0).otherwise(160.0)),
                ("item", pl.col("item"), pl.col("item") + 1_000),
            )
        )
        after = compute(altered, specs, tmp_path / f"after{number}", lag="2d")
        for spec in specs:
            differs = [a != b for a, b in zip(before[spec.name], after[spec.name], strict=True)]
            ages = [(day - at).days for day, is_other in zip(log["day"], differs, strict=True) if is_other]
            # A rate's prior remembers the whole log, whatever the window.
            oldest = 7 if spec.window and not (spec.rate and spec.smoothing) else 100
            assert all(2 <= age <= oldest for age in ages), spec.name
            if any(differs):
                moved.add(spec.name)
    assert moved >= {spec.name for spec in specs if spec.rate or spec.mean or spec.sum or spec.is_sequence}


def test_rows_that_only_look_back_need_no_outcomes_and_feed_nothing(log: pl.DataFrame, tmp_path: Path) -> None:
    specs = every_spec([None, "7d"])
    feeds = pl.col("viewer").fill_null(1) % 3 != 0
    both = compute(log, specs, tmp_path / "both", parts=[LogPart(log.lazy(), feeds)])
    looking = log.filter(~feeds).select("day", "viewer", "tag")
    parts = [LogPart(log.filter(feeds).lazy(), pl.lit(True)), LogPart(looking.lazy(), None)]
    apart = compute(log, specs, tmp_path / "apart", parts=parts)
    order = [*log.select(feeds.arg_true()).to_series(), *log.select((~feeds).arg_true()).to_series()]
    for spec in specs:
        assert apart[spec.name] == [both[spec.name][place] for place in order], spec.name


def test_rows_of_one_time_keep_the_logs_order_in_a_sequence(tmp_path: Path) -> None:
    log = pl.DataFrame({"day": [1, 1, 1, 2], "viewer": [5, 5, 5, 5], "item": [30, 10, 20, 0]})
    spec = HistorySpec.read("recent", {"by": "viewer", "last": 2, "of": "item"})
    assert compute(log, [spec], tmp_path / "work", lag=1)["recent"] == [[], [], [], [(10, 1), (20, 1)]]


def test_a_mean_beside_huge_numbers_of_another_key_is_exact(tmp_path: Path) -> None:
    log = pl.DataFrame({"day": [1, 1, 2, 2], "viewer": [1, 2, 1, 2], "paid": [4e15, 0.1, 0.0, 0.0]})
    spec = HistorySpec.read("paid", {"by": "viewer", "mean": "paid"})
    assert compute(log, [spec], tmp_path / "work", lag=1)["paid"] == [
        *(None, None, pytest.approx(4e15), pytest.approx(0.1, rel=1e-7)),
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"count": True, "window": "1d", "lag": "2d"}, r"h.window should be at least the lag, 2 days. Received: 1"),
        ({"rate": "item"}, r"h.rate should be 0 or 1 in every row"),
        ({"mean": "tag"}, r"h.mean should be a number or a condition. Received: a column of String"),
        ({"mean": "wached"}, r"h.mean: no such column wached. Did you mean watched\?"),
        ({"count": True, "where": "tag > 3"}, r"h.where should fit the columns' types"),
        ({"by": ["taag"], "count": True}, r"h.by: no such column taag. Did you mean tag\?"),
        ({"sum": "1 / (item - item)"}, r"h.sum should be finite numbers below 2\^52"),
    ],
)
def test_a_history_that_the_log_does_not_allow_is_refused(
    log: pl.DataFrame, tmp_path: Path, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compute(log, [HistorySpec.read("h", {"by": "viewer", **spec})], tmp_path / "work")


def test_a_time_column_finer_than_a_day_needs_a_lag(log: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset.history.lag should say how long .* counts seconds, not days"):
        compute(log, [HistorySpec.read("h", {"by": "viewer", "count": True})], tmp_path / "work", time="second")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"count": True, "rate": "click"}, "exactly one of"),
        ({}, "exactly one of"),
        ({"last": 5}, "h.of should name what a sequence holds"),
        ({"count": True, "of": "item"}, "h.of should name what a sequence holds"),
    ],
)
def test_a_history_is_one_statistic(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HistorySpec.read("h", {"by": "viewer", **spec})
