"""`schedule=daily`: a model trained day by day, each day evaluated before it is trained on (progressive validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from funrec.config.overrides import quoted
from funrec.metrics import is_count, table_columns
from funrec.utils.errors import InputError

DAILY = "schedule=daily"
#: The key by which a job's day is told in tables, and those that follow from it.
DAY, FOLLOWING = "dataset.split.valid_from", ("dataset.where", "trainer.start_from")
#: A column of more values than this is none of days.
MOST_DAYS = 400


def daily_jobs(config: Mapping[str, Any], overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of a job for each day, in order, from those that make `config`.

    The first trains on all rows before `dataset.split.valid_from` and is evaluated on that day; every further one
    trains on the day that the one before it was evaluated on. Days from `test_from` or `calibrate_from` on are left
    out. No epoch is chosen by its metrics, since a day's labels are not there when the model trains.
    """
    # Polars starts threads, and jobs are forked from a process that has imported this module.
    from funrec.config.build import build
    from funrec.data.datasets.base import Dataset
    from funrec.data.preparation.splitting import split_column

    if config["baselines"]:
        raise InputError("baselines should be false with schedule=daily. Sweep over them: -m model=mmoe,logistic.")
    dataset = build(config["dataset"], Dataset, "dataset")
    if dataset.split.by != "time" or dataset.split.valid_from is None:
        raise InputError(
            "schedule=daily needs dataset.split.by=time and a dataset.split.valid_from, the first day to evaluate."
        )
    column = str(split_column(dataset))
    *days, last = _days(dataset, column)
    # Histories look back beyond what `where` leaves: they are computed before it.
    given = [] if dataset.where is None else [f"({dataset.where})"]
    planned = []
    for before, day in zip([None, *days], [*days, last], strict=True):
        since = [] if before is None else [f'"{column}" >= {_literal(before)}']
        where = " AND ".join([*given, *since, f'"{column}" <= {_literal(day)}'])
        value = day if isinstance(day, int | float) else quoted(str(day))
        asked = [f"++dataset.where={quoted(where)}", f"++{DAY}={value}", *_SAME_EVERY_DAY]
        keys = {_key(override) for override in asked}
        planned.append([*(override for override in overrides if _key(override) not in keys), *asked])
    return planned


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


_SAME_EVERY_DAY = (
    *("++dataset.split.test_from=null", "++dataset.split.calibrate_from=null"),
    *("++trainer.monitor=null", "++schedule=null"),
)


def _days(dataset: Any, column: str) -> list[Any]:
    """Return the days to evaluate."""
    import polars as pl

    from funrec.data.preparation.splitting import time_bound

    where = None if dataset.where is None else dataset.parse("dataset.where", dataset.where)
    with TemporaryDirectory() as folder:
        frames = dataset.scan([column, *(where.columns if where else ())], Path(folder))
        if "all" not in frames:
            raise InputError("schedule=daily needs one log that is split by time. Received: a file for each split.")
        rows = frames["all"] if where is None else frames["all"].filter(where.expr)
        dtype = rows.collect_schema()[column]
        day, rule = pl.col(column), dataset.split
        is_evaluated = day >= time_bound("valid_from", rule.valid_from, column, dtype)
        for key in ("calibrate_from", "test_from"):
            if (end := getattr(rule, key)) is not None:
                is_evaluated &= day < time_bound(key, end, column, dtype)
        found = rows.select(day.unique()).filter(is_evaluated).sort(column).collect(engine="streaming")
        days: list[Any] = found[column].to_list()
    if not 0 < len(days) <= MOST_DAYS:
        raise InputError(
            f"schedule=daily needs a dataset.split.column of days, with 1 to {MOST_DAYS} of them from valid_from on. "
            f"Received: column {column} with {len(days):,}."
        )
    return days


def _literal(day: Any) -> str:
    """Return a day as SQL has it."""
    return str(day) if isinstance(day, int | float) else f"'{day}'"


def mean_rows(rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the mean over the days of every model and swept value; a metric that some day lacks has none."""
    others = [key for key in ("model", *swept) if key != DAY]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if DAY in row:  # an oracle has none
            groups.setdefault(tuple(row[key] for key in others), []).append(row)
    for values, days in groups.items():
        metrics = [name for name in table_columns(days[0]) if all(name in day for day in days)]
        means = {name: sum(day[name] for day in days) / len(days) for name in metrics if name not in swept}
        rounded = {name: round(mean) if is_count(name) else mean for name, mean in means.items()}
        yield {**dict(zip(others, values, strict=True)), DAY: f"mean of {len(days)} days", **rounded}
