"""Computes histories over a staged log, some keys at a time, into arrays on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.features.history import HistorySpec
from funrec.data.features.history_ranges import Clock, Events, KeyOrder, Numbers
from funrec.data.features.history_time import TimeUnit, read_times
from funrec.utils.errors import InputError

#: Rows that are held in memory at a time, unless a single key has more.
ROWS_PER_PART = 1 << 22
ROWS_PER_BATCH = 1 << 18


@dataclass(frozen=True)
class HistorySequence:
    """The newest events that each row sees, as ranges of one table.

    Attributes:
        starts: Where each row's events begin; int64 `(rows,)`.
        lengths: How many there are; uint16 `(rows,)`.
        times: The rows' own times, in the log's unit; int64 `(rows,)`.
        events: One row per event, the oldest of a key first: the columns of `of`, and `time` in the log's unit.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.uint16]
    times: NDArray[np.int64]
    events: pl.LazyFrame


@dataclass(frozen=True)
class Histories:
    """Raw values of histories, for every row of a staged log.

    Attributes:
        numbers: By name; float32 `(rows,)`, NaN where a row sees nothing to take the statistic of.
        sequences: By name.
        lags: How old a row must be to be seen, in units of the log's times; by name.
    """

    numbers: dict[str, NDArray[np.float32]]
    sequences: dict[str, HistorySequence]
    lags: dict[str, int]


def compute_histories(
    log: Path, specs: Sequence[HistorySpec], folder: Path, lag: float | str | None = None, until: str = "row"
) -> Histories:
    """Compute every history for every row of a log.

    A row sees the rows that are older than itself by at least `lag`, whatever their order in the log. Sums are exact,
    so that values are the same bits however the log is ordered or divided; events of one time keep the log's order.

    Args:
        log: What `stage_log` wrote.
        specs: The histories.
        folder: Where the values are written: 4 bytes a row and number, 10 a row and sequence, and the events.
        lag: Least age of a row to be seen; None for a day, which only a time column of dates allows.
        until: `row`, or `train_end`: later rows see what was known when training ended.
    """
    scan = pl.scan_ipc(log)
    by_clock: dict[tuple[str, str], list[HistorySpec]] = {}
    for spec in specs:
        by_clock.setdefault((spec.time_column, spec.until or until), []).append(spec)
    found = Histories({}, {}, {})
    for number, ((column, ends), same_clock) in enumerate(by_clock.items()):
        clock, unit = _read_clock(scan, column, ends == "train_end")
        place = folder / f"clock_{number}"
        place.mkdir()
        plans = {spec.name: _Plan.of(spec, lag, unit, _prior(scan, clock, spec, place)) for spec in same_clock}
        writers = {spec.name: _Writer(spec, place / str(i), len(clock.ranks)) for i, spec in enumerate(same_clock)}
        _write(scan, clock, plans, writers)
        for spec in same_clock:
            if spec.is_sequence:
                found.sequences[spec.name] = writers[spec.name].sequence(clock)
            else:
                found.numbers[spec.name] = writers[spec.name].numbers
            found.lags[spec.name] = plans[spec.name].lag
    return found


def _write(scan: pl.LazyFrame, clock: Clock, plans: Mapping[str, _Plan], writers: Mapping[str, _Writer]) -> None:
    by_key: dict[tuple[str, ...], list[_Plan]] = {}
    for plan in plans.values():
        by_key.setdefault(plan.spec.by, []).append(plan)
    with ThreadPoolExecutor(2) as threads:
        for by, same_key in by_key.items():
            for part in _parts(scan, clock, by, [plan.spec for plan in same_key]):
                jobs = [threads.submit(part.write, plan, writers[plan.spec.name]) for plan in same_key]
                for job in jobs:
                    job.result()


def _collect(scan: pl.LazyFrame, column: str) -> pl.Series:
    return scan.select(column).collect(engine="streaming").to_series()


def _read_clock(scan: pl.LazyFrame, column: str, ends: bool) -> tuple[Clock, TimeUnit]:
    """Return the times of a staged log's column, ending with training if asked to, and their unit."""
    key = "dataset.time" if column == "time" else column.removeprefix("time/")
    times, unit = read_times(key, _collect(scan, column))
    trains = _collect(scan, "trains").to_numpy() if ends or column != "time" else np.zeros(0, bool)
    if ends and not trains.any():
        raise InputError("dataset.history.until=train_end should have training rows to end at. The log has none.")
    if column != "time" and trains.any():
        times = align_times(times, read_times("dataset.time", _collect(scan, "time"))[0], trains)
    return Clock(times, int(times[trains].max()) if ends else None), unit


def align_times(fine: NDArray[np.int64], coarse: NDArray[np.int64], trains: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return finer times by which no row after training comes before its end, should the two columns disagree."""
    return np.where(coarse > coarse[trains].max(), np.maximum(fine, fine[trains].max()), fine)


@dataclass(frozen=True)
class _Plan:
    """A history with its durations in the unit of its times, and its rate over all keys by instants seen."""

    spec: HistorySpec
    lag: int
    window: int | None
    days: int
    prior: NDArray[np.float64] | None

    @classmethod
    def of(cls, spec: HistorySpec, lag: float | str | None, unit: TimeUnit, prior: NDArray[np.float64] | None) -> _Plan:
        where = f"dataset.features.{spec.name}"
        has_default = spec.lag is None and spec.time is None
        key = "dataset.history.lag" if has_default else f"{where}.lag"
        lag = lag if has_default else spec.lag
        if lag is None and not unit.is_days:
            raise InputError(
                f"{key} should say how long it takes until labels are known: {spec.time or 'dataset.time'} counts "
                f"{unit.name}, not days."
            )
        steps = 1 if lag is None else max(1, unit.duration(key, lag))
        window = None if spec.window is None else unit.duration(f"{where}.window", spec.window)
        if window is not None and window < steps:
            raise InputError(
                f"{where}.window should be at least the lag, {steps} {unit.name}. Received: {spec.window}."
            )
        return cls(spec, steps, window, unit.per_day or 1, prior)


class _Part:
    """The rows of some keys: a frame in the order of time, and the order of key and time over it."""

    def __init__(self, frame: pl.DataFrame, by: Sequence[str], clock: Clock) -> None:
        ranks = clock.ranks[frame["row"].to_numpy()]
        if not clock.is_sorted:
            by_time = np.argsort(ranks, kind="stable")
            frame, ranks = frame[by_time], ranks[by_time]
        order, lengths = np.arange(frame.height), np.array([frame.height])
        if by:
            places = pl.int_range(pl.len()).alias("place")
            # The rows of a group keep their order.
            groups = frame.select(*by, places).group_by(*by, maintain_order=True).agg("place")["place"]
            order, lengths = groups.explode().to_numpy(), groups.list.len().cast(pl.Int64).to_numpy()
        self.frame = frame
        self.rows = frame["row"].to_numpy()[order]
        self.order = KeyOrder(order, lengths, ranks[order], clock)

    def write(self, plan: _Plan, writer: _Writer) -> None:
        """Write one history's values for the rows of this part."""
        spec, order = plan.spec, self.order
        counted, values = _counted(spec, self.frame)
        events = Events.select(counted[order.places], order.ranges(plan.lag, plan.window))
        chosen = order.places[events.rows]
        if spec.is_sequence:
            times = pl.Series("time", order.times[events.rows])
            columns = [pl.col(f"value/{text}").alias(text) for text in spec.of]
            writer.append(self.rows, *events.newest(spec.last or 0), self.frame[chosen].select(*columns, times))
            return
        seen = events.counts
        result: NDArray[Any]
        if isinstance(values, Numbers):
            result = events.sums(values, chosen)
            if plan.prior is not None:
                result = (result + spec.smoothing * plan.prior[order.seen(plan.lag)]) / (seen + spec.smoothing)
            elif not spec.sum:
                result = np.where(seen > 0, result / np.maximum(seen, 1), np.nan)
        elif values is not None:
            result = events.distinct(order.previous(events.rows, values[chosen]))
        elif spec.since:
            result = np.where(seen > 0, (order.times - order.times[events.last()]) / plan.days, np.nan)
        else:
            result = seen
        writer.numbers[self.rows] = result


def _counted(spec: HistorySpec, frame: pl.DataFrame) -> tuple[NDArray[np.bool_], Numbers | pl.Series | None]:
    """Return which rows count as events, and what a statistic reads of them."""
    conditions = [pl.col(name) for name in spec.columns() if name.startswith("where/")]
    counted = frame.select(pl.all_horizontal("feeds", *conditions)).to_series().to_numpy()
    if spec.distinct:
        values = frame[f"value/{spec.distinct}"]
        return counted & values.is_not_null().to_numpy(), values
    if not (spec.rate or spec.mean or spec.sum):
        return counted, None
    where = f"dataset.features.{spec.name}.{spec.statistic}"
    numbers = Numbers.read(where, frame[f"number/{getattr(spec, spec.statistic)}"])
    if spec.rate and (numbers.fraction is not None or not np.isin(numbers.whole, (0, 1)).all()):
        raise InputError(f'{where} should be 0 or 1 in every row. Write a condition, such as "rating >= 4".')
    return counted & numbers.valid, numbers


def _parts(scan: pl.LazyFrame, clock: Clock, by: Sequence[str], specs: Sequence[HistorySpec]) -> Iterator[_Part]:
    """Yield all rows, a bounded number at a time, and those of a key together."""
    keys = [f"by/{text}" for text in by]
    columns = dict.fromkeys(["feeds", *keys, *(name for spec in specs for name in spec.columns())])
    count = math.ceil(len(clock.ranks) / ROWS_PER_PART) if by else 1
    rows = scan.select(*columns).with_row_index("row")
    for number in range(count):
        chosen = rows if count == 1 else rows.filter(pl.struct(keys).hash() % count == number)
        yield _Part(chosen.collect(engine="streaming"), keys, clock)


def _prior(scan: pl.LazyFrame, clock: Clock, spec: HistorySpec, folder: Path) -> NDArray[np.float64] | None:
    """Return the rate over all keys by the number of instants seen, `(instants + 1,)`; NaN before the first row.

    None for a statistic that is not smoothed.
    """
    if not spec.rate or not spec.smoothing:
        return None
    columns = [name for name in spec.columns() if not name.startswith("by/")]
    # On disk, since there may be as many instants as rows; one file for the same rate by different keys.
    path = folder / f"prior_{hashlib.sha256('/'.join(columns).encode()).hexdigest()[:16]}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    hits, counts = (np.zeros(len(clock.instants) + 1, np.int64) for _ in range(2))
    for start in range(0, len(clock.ranks), ROWS_PER_BATCH):
        batch = scan.select("feeds", *columns).slice(start, ROWS_PER_BATCH).collect()
        counted, numbers = _counted(spec, batch)
        assert isinstance(numbers, Numbers)
        places = clock.ranks[start : start + ROWS_PER_BATCH][counted] + 1
        np.add.at(counts, places, 1)
        np.add.at(hits, places, numbers.whole[counted])
    prior = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=hits.shape)
    with np.errstate(invalid="ignore"):
        np.divide(np.cumsum(hits, out=hits), np.cumsum(counts, out=counts), out=prior)
    return prior


class _Writer:
    """Where one history's values go."""

    def __init__(self, spec: HistorySpec, folder: Path, rows: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._events = 0
        self._files: list[Path] = []
        if spec.is_sequence:
            self._starts = self._array("starts", np.int64, rows)
            self._lengths = self._array("lengths", np.uint16, rows)
        else:
            self.numbers = self._array("numbers", np.float32, rows)

    def _array(self, name: str, dtype: type, rows: int) -> Any:
        return np.lib.format.open_memmap(self._folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(rows,))

    def append(
        self, rows: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64], events: pl.DataFrame
    ) -> None:
        """Write the ranges of some rows, which begin at `starts` in `events`, and those events."""
        self._starts[rows] = starts + self._events
        self._lengths[rows] = lengths
        self._events += events.height
        self._files.append(self._folder / f"events_{len(self._files)}.arrow")
        events.write_ipc(self._files[-1], compression="uncompressed")

    def sequence(self, clock: Clock) -> HistorySequence:
        return HistorySequence(self._starts, self._lengths, clock.instants[clock.ranks], pl.scan_ipc(self._files))
