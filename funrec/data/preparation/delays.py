"""Labels that come late: what training may see of them, and how likely a label was to be seen by then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.datasets.base import Dataset
from funrec.data.preparation.staging import ROW, SPLIT, StagedFrame
from funrec.schema import Task
from funrec.utils.errors import InputError

#: Factors of the product-limit estimate that rest on fewer labels are left out.
LEAST_AT_RISK = 20
_EIGHT_DIGITS = (19_000_101, 21_001_231)


class DelayLaw(NamedTuple):
    """The distribution of delays, a step function: `shares` of all delays are at most `points`, both ascending."""

    points: NDArray[np.float64]
    shares: NDArray[np.float64]

    def chance(self, elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the chance that a delay is at most `elapsed`."""
        return np.concatenate(([0.0], self.shares))[np.searchsorted(self.points, elapsed, side="right")]


class Delays(NamedTuple):
    """When the labels of a dataset's late tasks are seen.

    Attributes:
        time: Expression of a staged row's time.
        training_end: What is seen after it is unknown to training.
        log_end: The last time at which anything was seen.
        laws: The law of delays by task, from labels seen in training.
    """

    time: pl.Expr
    training_end: float
    log_end: float
    laws: Mapping[str, DelayLaw]

    def hide(self, staged: pl.DataFrame, task: Task, label: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Return training labels as they are at the end of training, and the chance that a positive one is seen."""
        elapsed = self.training_end - _numbers(staged.select(self.time).to_series())
        seen = _numbers(staged[f"delay/{task.name}"]) <= elapsed  # a delay of NaN is never seen
        return np.where(seen, label, 0).astype(np.float32), self.laws[task.name].chance(elapsed).astype(np.float32)

    def unseen(self, rows: pl.LazyFrame) -> dict[str, float]:
        """Return, by task, the share of a split's positive labels that are expected after the end of the log."""
        elapsed = self.log_end - _numbers(rows.select(self.time).collect(engine="streaming").to_series())
        return {name: float(1 - law.chance(elapsed).mean()) for name, law in self.laws.items()}


def find_delays(dataset: Dataset, frames: Sequence[StagedFrame]) -> Delays | None:
    """Return when labels are seen; None where no task says that they are late.

    Training ends where evaluation begins if all training rows are earlier, else with the log.
    """
    late = [task for task in dataset.tasks if task.observed_after is not None]
    if not late:
        return None
    time = _time(frames)
    rows = pl.concat(
        [
            frame.rows.select(
                ROW,
                time.alias("time"),
                pl.col(SPLIT).replace_strict(frame.codes, default=None, return_dtype=pl.String),
                *(_seen_delay(task, frame.schema).alias(task.name) for task in late),
            )
            for frame in frames
        ]
    )
    for task in late:
        _check(
            task,
            rows.select(ROW, task.name).filter(pl.col(task.name).is_nan() | (pl.col(task.name) < 0)).head(1).collect(),
        )
    is_training = pl.col(SPLIT) == "train"
    last_trained, first_evaluated, has_all, *ends = (
        rows.select(
            pl.col("time").filter(is_training).max(),
            pl.col("time").filter(~is_training).min().alias("evaluated"),
            pl.col("time").is_not_null().all().alias("known"),
            pl.max("time").alias("end"),
            *((pl.col("time") + pl.col(task.name)).max().alias(task.name) for task in late),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not has_all:
        raise InputError("dataset.time should be known in every row where a task has observed_after. It has nulls.")
    log_end = max(end for end in ends if end is not None)
    training_end = first_evaluated if first_evaluated is not None and last_trained <= first_evaluated else log_end
    laws = {}
    for task in late:
        delay = pl.col(task.name)
        seen = rows.filter(is_training & (pl.col("time") + delay <= training_end)).select("time", delay).collect()
        laws[task.name] = estimate_law(seen[task.name].to_numpy(), training_end - seen["time"].to_numpy())
    return Delays(time, training_end, log_end, laws)


def estimate_law(delays: NDArray[np.float64], elapsed: NDArray[np.float64]) -> DelayLaw:
    """Estimate the law of delays, `(labels,)`, each of which was seen since it is at most the time `elapsed`.

        F(d) = product over delays d_j > d of (1 - 1 / n(d_j)),     n(d) = labels with delay <= d <= elapsed

    The product-limit estimate of right-truncated data (Lynden-Bell, MNRAS 1971; Woodroofe, Annals of Statistics 1985).
    It is of delays up to the longest that was well observed: what comes later is no part of the label.
    """
    points, counts = np.unique(delays, return_counts=True)
    at_risk = np.searchsorted(np.sort(delays), points, side="right") - np.searchsorted(np.sort(elapsed), points)
    factors = np.where(at_risk >= LEAST_AT_RISK, 1 - counts / at_risk, 1.0)
    return DelayLaw(points, np.append(np.cumprod(factors[::-1])[::-1][1:], 1.0)[: len(points)])


def _time(frames: Sequence[StagedFrame]) -> pl.Expr:
    """Return an expression of a staged row's time: as it stands, in days (dates, 20240131) or seconds (date-times)."""
    time, dtype = pl.col("time"), frames[0].schema.get("time")
    if dtype == pl.Date:
        return time.to_physical().cast(pl.Float64)
    if isinstance(dtype, pl.Datetime):
        return time.dt.epoch("us") / 1e6
    if dtype is None or not dtype.is_numeric():
        raise InputError(
            "dataset.time should be a number, a date or a date-time, from which observed_after counts. "
            f"Received: {'none' if dtype is None else dtype}."
        )
    days = time.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
    are_dates = time.is_between(*_EIGHT_DIGITS).all() & days.is_not_null().all()
    if all(frame.rows.select(are_dates).collect(engine="streaming").item() for frame in frames):
        return days.to_physical().cast(pl.Float64)
    return time.cast(pl.Float64)


def _seen_delay(task: Task, schema: pl.Schema) -> pl.Expr:
    """Return the delay of positive labels, NaN where it is missing; null of other rows."""
    is_positive = pl.col(f"label/{task.name}") == 1
    if f"where/{task.name}" in schema:
        is_positive &= pl.col(f"where/{task.name}")
    return pl.when(is_positive).then(pl.col(f"delay/{task.name}").fill_null(float("nan")))


def _check(task: Task, bad: pl.DataFrame) -> None:
    if bad.height:
        raise InputError(
            f"dataset.tasks.{task.name}.observed_after should be a delay of at least 0 wherever the label is 1. "
            f"Received: {bad[task.name][0]:g}, in row {bad[ROW][0]:,} (from 0)."
        )


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
