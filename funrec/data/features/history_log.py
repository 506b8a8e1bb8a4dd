"""The columns that histories read of a log, in one file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from funrec.data.expressions import dtype_of, is_number, parse_expression
from funrec.data.features.history import ROLES, HistorySpec, expressions
from funrec.utils.errors import InputError, did_you_mean


@dataclass(frozen=True)
class LogPart:
    """Raw rows of a log, in order.

    Attributes:
        rows: The rows; where none feeds, the columns of outcomes may be missing.
        feeds: Which rows later ones may see; None for rows that look back only.
        trains: Which rows are training rows; None for none.
    """

    rows: pl.LazyFrame
    feeds: pl.Expr | None
    trains: pl.Expr | None = None


def needed_columns(
    specs: Sequence[HistorySpec], available: Sequence[str] | None, keys: Collection[str] | None = None
) -> dict[str, str]:
    """Return the raw columns that histories (or some keys of theirs) read, with the config key that asks for each."""
    needed: dict[str, str] = {}
    for spec in specs:
        for key, text in expressions(spec):
            if keys is not None and key not in keys:
                continue
            key = f"dataset.features.{spec.name}.{key}"
            for column in parse_expression(key, text, available).columns:
                needed.setdefault(column, key)
        if spec.time is not None:
            needed.setdefault(spec.time, f"dataset.features.{spec.name}.time")
    return needed


def stage_log(parts: Sequence[LogPart], specs: Sequence[HistorySpec], time: str, path: Path) -> list[int]:
    """Write what histories read of a log into one Arrow file, without holding the rows in memory.

    Args:
        parts: The log, part by part; the rows need not be in the order of time.
        specs: The histories.
        time: The time column.
        path: The file.

    Returns:
        The number of rows of each part.
    """
    return write_log([staged_rows(part, specs, time) for part in parts], path)


def write_log(parts: Sequence[pl.LazyFrame], path: Path) -> list[int]:
    """Write parts of a log as `staged_rows` returns them into one file; see `stage_log`."""
    numbered = [part.with_columns(pl.lit(number, pl.UInt8).alias("part")) for number, part in enumerate(parts)]
    pl.concat(numbered, how="diagonal_relaxed").sink_ipc(path, compression="uncompressed")
    rows = pl.scan_ipc(path).group_by("part").agg(pl.len()).collect(engine="streaming")
    by_part = dict(rows.iter_rows())
    return [by_part.get(number, 0) for number in range(len(parts))]


def staged_rows(part: LogPart, specs: Sequence[HistorySpec], time: str) -> pl.LazyFrame:
    """Return the lazy query for the columns of one part: `time`, `feeds`, `trains`, and one for each expression."""
    schema = part.rows.collect_schema()
    columns = {
        "time": pl.col(time),
        "feeds": pl.lit(False) if part.feeds is None else part.feeds.fill_null(False),
        "trains": pl.lit(False) if part.trains is None else part.trains.fill_null(False),
    }
    if time not in schema:
        raise InputError(f"dataset.time: no such column {time}.{did_you_mean(time, schema)}")
    for spec in specs:
        if spec.time is not None:
            if spec.time not in schema:
                key = f"dataset.features.{spec.name}.time"
                raise InputError(f"{key}: no such column {spec.time}.{did_you_mean(spec.time, schema)}")
            columns[spec.time_column] = pl.col(spec.time)
        for key, text in expressions(spec):
            role = ROLES[key]
            key = f"dataset.features.{spec.name}.{key}"
            expression = parse_expression(key, text, schema.names())
            missing = [column for column in expression.columns if column not in schema]
            if missing and part.feeds is None and role != "by":
                continue
            if missing:
                raise InputError(f"{key}: no such column {missing[0]}.{did_you_mean(missing[0], schema)}")
            columns[f"{role}/{text}"] = _read(key, role, expression.expr, schema)
    return part.rows.select(**columns)


def _read(key: str, role: str, expr: pl.Expr, schema: pl.Schema) -> pl.Expr:
    """Return a key, number, condition or value as histories compare it."""
    dtype = dtype_of(key, expr, schema)
    if role in ("number", "where"):
        if not is_number(dtype):
            raise InputError(f"{key} should be a number or a condition. Received: a column of {dtype}.")
        return expr.cast(pl.Boolean).fill_null(False) if role == "where" else expr
    if isinstance(dtype, pl.List):
        # As in a categorical feature, the first value stands for a list.
        expr, dtype = expr.list.get(0, null_on_oob=True), dtype.inner  # type: ignore[assignment]  # a dtype instance
    # NaN is a null, and -0.0 is 0.0.
    return expr.fill_nan(None) + 0.0 if dtype.is_float() else expr
