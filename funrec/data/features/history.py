"""What happened before a row, from the log itself: counts, rates, means and sequences that never see the future."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeFloat, model_validator

from funrec.data.expressions import one_line, parse_expression
from funrec.utils.errors import InputError, did_you_mean

STATISTICS = ("count", "rate", "mean", "sum", "distinct", "since", "last")

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
Duration = NonNegativeFloat | str


class HistorySpec(BaseModel):
    """One statistic of the earlier rows that agree with a row on `by`.

    Attributes:
        name: The feature's name.
        by: Columns or SQL expressions whose values make the key; empty for the whole log. A null is a value as well.
        count: Count the rows.
        rate: Condition whose rate is taken, smoothed towards its rate over all keys as known by then. Rows where it
            is null do not count.
        mean: Number whose mean is taken; nulls do not count.
        sum: Number whose sum is taken.
        distinct: Column or expression whose distinct values are counted; a null is none.
        since: `last`: the time since the newest row, in days, or in steps of a time column without a unit.
        last: The newest so many rows, the oldest of them first, as a sequence of the columns in `of`.
        of: Columns or expressions that a sequence holds.
        smoothing: How many rows at the rate over all keys a rate starts from.
        where: Condition that a row must meet to be counted.
        window: How far back from its own time a row looks, such as `7d`; None for all of the log.
        lag: How old a row must be to be seen; None for `dataset.history.lag`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["history"] = "history"
    name: str
    by: Names
    count: bool = False
    rate: str | None = None
    mean: str | None = None
    sum: str | None = None
    distinct: str | None = None
    since: Literal["last"] | None = None
    last: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None
    of: Names = ()
    smoothing: NonNegativeFloat = 20.0
    where: str | None = None
    window: Duration | None = None
    lag: Duration | None = None

    @model_validator(mode="after")
    def _is_one_statistic(self) -> HistorySpec:
        chosen = [key for key in STATISTICS if getattr(self, key)]
        if len(chosen) != 1:
            raise ValueError(f"should have exactly one of {', '.join(STATISTICS)}. Received: {', '.join(chosen) or 0}")
        if bool(self.of) != (self.last is not None):
            raise ValueError("should have `of`, the columns of a sequence, if and only if it has `last`")
        return self

    @property
    def statistic(self) -> str:
        return next(key for key in STATISTICS if getattr(self, key))

    @property
    def is_sequence(self) -> bool:
        return self.last is not None

    def columns(self) -> list[str]:
        """Return the columns of a staged log that it reads."""
        return [_column(key, text) for key, text in _expressions(self)]


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


def needed_columns(specs: Sequence[HistorySpec], available: Sequence[str] | None) -> dict[str, str]:
    """Return the raw columns that histories read, with the config key that asks for each."""
    needed: dict[str, str] = {}
    for spec in specs:
        for key, text in _expressions(spec):
            key = f"dataset.features.{spec.name}.{key}"
            for column in parse_expression(key, text, available).columns:
                needed.setdefault(column, key)
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

    Raises:
        InputError: If a column is missing or an expression does not fit it.
    """
    plans = [
        _plan(part, specs, time).with_columns(pl.lit(number, pl.UInt8).alias("part"))
        for number, part in enumerate(parts)
    ]
    pl.concat(plans, how="diagonal_relaxed").sink_ipc(path, compression="uncompressed")
    rows = pl.scan_ipc(path).group_by("part").agg(pl.len()).collect(engine="streaming")
    by_part = dict(rows.iter_rows())
    return [by_part.get(number, 0) for number in range(len(parts))]


def _plan(part: LogPart, specs: Sequence[HistorySpec], time: str) -> pl.LazyFrame:
    schema = part.rows.collect_schema()
    columns = {
        "time": pl.col(time),
        "feeds": pl.lit(False) if part.feeds is None else part.feeds.fill_null(False),
        "trains": pl.lit(False) if part.trains is None else part.trains.fill_null(False),
    }
    if time not in schema:
        raise InputError(f"dataset.time: no such column {time}.{did_you_mean(time, schema)}")
    for spec in specs:
        for key, text in _expressions(spec):
            role = _ROLES[key]
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
    """Return a key, number, condition or value as histories compare it.

    Raises:
        InputError: If the expression does not fit the columns, or a number or condition is none.
    """
    try:
        dtype = pl.DataFrame(schema=schema).select(expr.alias("value")).schema["value"]
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{key} should fit the columns' types: {one_line(error)}.") from error
    if role in ("number", "where"):
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise InputError(f"{key} should be a number or a condition. Received: a column of {dtype}.")
        return expr.cast(pl.Boolean).fill_null(False) if role == "where" else expr
    if isinstance(dtype, pl.List):
        # As in a categorical feature, the first value stands for a list.
        expr, dtype = expr.list.get(0, null_on_oob=True), dtype.inner  # type: ignore[assignment]  # a dtype instance
    # NaN is a null, and -0.0 is 0.0.
    return expr.fill_nan(None) + 0.0 if dtype.is_float() else expr


#: What is read for each key of a spec.
_ROLES = {
    **{"by": "by", "where": "where", "of": "value", "distinct": "value"},
    **dict.fromkeys(("rate", "mean", "sum"), "number"),
}


def _expressions(spec: HistorySpec) -> Iterator[tuple[str, str]]:
    """Yield every expression of a spec with the key it stands under."""
    for key in _ROLES:
        texts = getattr(spec, key)
        for text in (texts,) if isinstance(texts, str) else texts or ():
            yield key, text


def _column(key: str, text: str) -> str:
    return f"{_ROLES[key]}/{text}"
