"""The histories of a dataset's rows, as further columns of its frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.datasets.base import Dataset
from funrec.data.expressions import parse_expression
from funrec.data.features.history import AGO, HISTORY, HistorySettings, HistorySpec
from funrec.data.features.history_engine import Histories, HistorySequence, compute_histories
from funrec.data.features.history_log import LogPart, needed_columns, stage_log, staged_rows, write_log
from funrec.data.features.history_time import read_times
from funrec.data.preparation.splitting import split_code
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import read_parquet

#: Columns of whether a row lies after the warm-up, and of its place.
WARM = "history/warm"
ROW = "history/row"
LOG, SNAPSHOT, SNAPSHOT_SCHEMA = "history.arrow", "history.parquet", "history_schema.parquet"


def add_histories(
    dataset: Dataset, frames: Mapping[str, pl.LazyFrame], used: Mapping[str, pl.LazyFrame], folder: Path
) -> dict[str, pl.LazyFrame]:
    """Compute the histories of all rows, before any are left out, and return the frames with a column for each.

    With a split by time the rows of the frame `all` feed those after them. With any other split training rows alone
    do, so that none of them sees an evaluation row. Further evaluation splits look back and never feed.

    Args:
        dataset: Whose histories to compute.
        frames: What its `scan` returned.
        used: Those of their rows that are divided into splits.
        folder: A folder to work in, which the frames read from.
    """
    settings, time = dataset.history, dataset.history_time()
    columns = {time: None, **needed_columns(dataset.histories, dataset.available_columns())}
    if settings.where is not None:
        columns |= dict.fromkeys(dataset.parse("dataset.history.where", settings.where).columns)
    earlier = [LogPart(frame, _feeds(dataset)) for frame in dataset.scan_earlier(list(columns))]
    counts = stage_log([*_parts(dataset, frames, used), *earlier], dataset.histories, time, folder / LOG)
    values = folder / "histories"
    values.mkdir()
    found = compute_histories(folder / LOG, dataset.histories, values, settings.lag, settings.until)
    schema = next(iter(frames.values())).select(*columns).collect_schema()
    pl.DataFrame(schema=schema).write_parquet(folder / SNAPSHOT_SCHEMA)
    warm = None if settings.warmup is None else _warm(folder / LOG, settings.warmup)
    starts = np.cumsum([0, *counts])
    return {
        name: with_columns(frame, dataset.histories, found, int(start), warm)
        for (name, frame), start in zip(frames.items(), starts, strict=False)
    }


def _feeds(dataset: Dataset) -> pl.Expr:
    """Return which rows may be seen, of those that may feed at all."""
    where = dataset.history.where
    return pl.lit(True) if where is None else dataset.parse("dataset.history.where", where).expr.cast(pl.Boolean)


def _parts(dataset: Dataset, frames: Mapping[str, pl.LazyFrame], used: Mapping[str, pl.LazyFrame]) -> list[LogPart]:
    parts = []
    for name, frame in frames.items():
        trains = pl.lit(name == "train")
        if name == "all":
            frame = frame.with_row_index(ROW)
            trains = split_code(dataset, used[name], frame.collect_schema(), ROW) == 0
        feeds: pl.Expr | None = None
        if name in ("all", "train"):
            feeds = pl.lit(True) if name == "all" and dataset.split.by == "time" else trains
            feeds &= _feeds(dataset)
        parts.append(LogPart(frame, feeds, trains))
    return parts


def snapshot_of(dataset: Dataset, folder: Path) -> HistorySnapshot:
    """Return what `add_histories` left in its folder."""
    schema = pl.read_parquet_schema(folder / SNAPSHOT_SCHEMA)
    return HistorySnapshot(
        dataset.histories, dataset.history, dataset.history_time(), pl.scan_ipc(folder / LOG), pl.Schema(schema)
    )


@dataclass(frozen=True)
class HistorySnapshot:
    """What histories of new rows need: the rows that a run's log let them see.

    Attributes:
        specs: The histories.
        settings: How they look back.
        time: The time column.
        log: The staged rows.
        schema: The raw columns that they read, as the log had them.
    """

    specs: tuple[HistorySpec, ...]
    settings: HistorySettings
    time: str
    log: pl.LazyFrame
    schema: pl.Schema

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the snapshot into a folder, and return the plain values that `load` needs beside it."""
        self.log.filter(pl.col("feeds") | pl.col("trains")).drop("part", strict=False).sink_parquet(folder / SNAPSHOT)
        pl.DataFrame(schema=self.schema).write_parquet(folder / SNAPSHOT_SCHEMA)
        specs = [asdict(spec) for spec in self.specs]
        return {"specs": specs, "settings": asdict(self.settings), "time": self.time}

    @classmethod
    def load(cls, state: Mapping[str, Any], folder: Path) -> HistorySnapshot:
        """Read what `save` wrote."""
        read_parquet(folder / SNAPSHOT, columns=())  # its footer alone: a damaged log is told before new rows are read
        return cls(
            tuple(HistorySpec.read(spec.pop("name"), spec) for spec in map(dict, state["specs"])),
            HistorySettings(**state["settings"]),
            state["time"],
            pl.scan_parquet(folder / SNAPSHOT),
            read_parquet(folder / SNAPSHOT_SCHEMA).schema,
        )

    @property
    def columns(self) -> list[str]:
        """The raw columns that a new row needs: those of its keys, and its time."""
        return list(dict.fromkeys([self.time, *needed_columns(self.specs, self.schema.names(), keys=("by",))]))

    def check_columns(self, known: Collection[str], needed: Iterable[str] | None = None) -> None:
        """Refuse rows that lack a column, by default one of `columns`."""
        for column in self.columns if needed is None else needed:
            if column not in known:
                raise InputError(f"Rows should have column {column}, for their history.{did_you_mean(column, known)}")

    def add_to(self, rows: pl.LazyFrame, folder: Path) -> pl.LazyFrame:
        """Return new raw rows with a column for each history.

        They see what validation rows of their time would have seen, and feed nothing.

        Args:
            rows: Rows with `columns`.
            folder: An empty folder to work in, which the result reads from.
        """
        typed = self._typed(rows, self.columns)
        parts = [self.log, staged_rows(LogPart(typed, None), self.specs, self.time)]
        seen, _ = write_log(parts, folder / LOG)
        found = compute_histories(folder / LOG, self.specs, folder, self.settings.lag, self.settings.until)
        return with_columns(rows, self.specs, found, seen)

    def moved_on(self, rows: pl.LazyFrame) -> HistorySnapshot:
        """Return the snapshot with a newer log added to it.

        Args:
            rows: Raw rows with their outcomes, all of them later than what is known.
        """
        if all((spec.until or self.settings.until) == "train_end" for spec in self.specs):
            raise InputError(
                "A newer log should be given to a run with dataset.history.until=row. Received: one with train_end, "
                "which sees nothing after its training rows."
            )
        feeds = pl.lit(True)
        if self.settings.where is not None:
            key = "dataset.history.where"
            feeds = parse_expression(key, self.settings.where, self.schema.names()).expr.cast(pl.Boolean)
        part = staged_rows(LogPart(self._typed(rows, self.schema), feeds), self.specs, self.time)
        newest = self.log.select(pl.max("time")).collect().item()
        oldest = part.select(pl.min("time")).collect().item()
        if oldest is None or oldest <= newest:
            raise InputError(
                f"A newer log should begin after what the run has seen, {self.time} {newest}. Received: {self.time} "
                f"{oldest}. Leave the rows before out."
            )
        return replace(self, log=pl.concat([self.log, part], how="diagonal_relaxed"))

    def _typed(self, rows: pl.LazyFrame, columns: Iterable[str]) -> pl.LazyFrame:
        known = rows.collect_schema()
        self.check_columns(known, columns)
        return rows.select(_as_dtype(column, known[column], self.schema[column]) for column in columns)

    def complete(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame of new raw rows with a column for each history, unless it has them; see `add_to`."""
        if any(column.startswith(HISTORY) for column in frame.columns):
            return frame
        with TemporaryDirectory(prefix="funrec-history-") as folder:
            return self.add_to(frame.lazy(), Path(folder)).collect()


def _as_dtype(column: str, known: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.List) and known == pl.String:
        return pl.col(column).str.split(",").cast(dtype, strict=False)
    if known == pl.String and isinstance(dtype, pl.Date | pl.Datetime):
        return pl.col(column).str.strptime(dtype, strict=False)
    return pl.col(column) if known == dtype else pl.col(column).cast(dtype, strict=False)


def _warm(log: Path, warmup: float | str) -> NDArray[np.bool_]:
    times, unit = read_times("dataset.time", pl.scan_ipc(log).select("time").collect(engine="streaming").to_series())
    return times >= times.min() + unit.duration("dataset.history.warmup", warmup)


def with_columns(
    frame: pl.LazyFrame,
    specs: Sequence[HistorySpec],
    found: Histories,
    start: int = 0,
    warm: NDArray[np.bool_] | None = None,
) -> pl.LazyFrame:
    """Return a frame with a column for each history; its first row is row `start` of the log."""
    columns = []
    for spec in specs:
        if spec.is_sequence:
            sequence = found.sequences[spec.name]
            events = sequence.events.collect()
            columns += [_list(start, sequence, events[text]).alias(spec.column(text)) for text in spec.of]
            if spec.ago:
                ago = _list(start, sequence, events["time"], is_time=True)
                columns.append(ago.alias(f"{HISTORY}{spec.name}/{AGO}"))
        else:
            columns.append(_lookup(start, found.numbers[spec.name], spec.scale).alias(spec.column()))
    if warm is not None:
        columns.append(_lookup(start, warm).alias(WARM))
    return frame.with_row_index(ROW).with_columns(columns).drop(ROW)


def _lookup(start: int, values: NDArray[Any], scale: str = "linear") -> pl.Expr:
    def take(rows: pl.Series) -> pl.Series:
        taken = values[start + rows.to_numpy().astype(np.int64)]
        return pl.Series(np.log1p(taken) if scale == "log1p" else taken)

    dtype = pl.Boolean() if values.dtype == np.bool_ else pl.Float32()
    return pl.col(ROW).map_batches(take, return_dtype=dtype, is_elementwise=True)


def _list(start: int, sequence: HistorySequence, events: pl.Series, is_time: bool = False) -> pl.Expr:
    """Return the values of each row's events; of their times, how long before the row they were, in buckets."""

    def take(rows: pl.Series) -> pl.Series:
        places = start + rows.to_numpy().astype(np.int64)
        begins, lengths = sequence.starts[places], sequence.lengths[places].astype(np.int64)
        ends = np.cumsum(lengths)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        flat = events[np.repeat(begins, lengths) + inside]
        if is_time:  # the whole logarithm: 1, 2 to 3, 4 to 7, ... units of time
            flat = pl.Series(np.frexp(np.repeat(sequence.times[places], lengths) - flat.to_numpy())[1] - 1)
        owner = np.repeat(np.arange(len(rows)), lengths)
        lists = pl.DataFrame({"row": owner, "value": flat}).group_by("row", maintain_order=True).agg("value")
        everything = pl.DataFrame({"row": np.arange(len(rows))}).join(
            lists, on="row", how="left", maintain_order="left"
        )
        return everything["value"].fill_null([])

    dtype = pl.List(pl.Int32 if is_time else events.dtype)
    return pl.col(ROW).map_batches(take, return_dtype=dtype, is_elementwise=True)
