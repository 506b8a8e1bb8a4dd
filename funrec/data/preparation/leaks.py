"""Whether later outcomes move what histories say of earlier rows, found by changing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.datasets.base import Dataset
from funrec.data.features.history_engine import Histories, HistorySequence, align_times, compute_histories
from funrec.data.features.history_time import read_times
from funrec.data.hashing import mix
from funrec.data.preparation.histories import LOG
from funrec.data.preparation.staging import stage
from funrec.utils.errors import InputError

TRIALS = 3


@dataclass(frozen=True)
class LeakCheck:
    """What became of one history when outcomes were changed from some instant on.

    Attributes:
        name: The history.
        leaks: Rows that should not have seen the changed outcomes, and moved all the same.
        moved: Rows that might have seen them, and moved.
    """

    name: str
    leaks: int
    moved: int


def check_histories(dataset: Dataset, folder: Path, seed: int = 0) -> list[LeakCheck]:
    """Shuffle the outcomes of all rows from some instant on, and see whose histories move.

    Args:
        dataset: Whose histories to check.
        folder: An empty folder to work in.
        seed: Draws the instants, three of them, and the order.
    """
    if not dataset.histories:
        raise InputError("dataset.features should have one of kind history to check for leaks. Received: none.")
    stage(dataset, folder)
    log = pl.read_ipc(folder / LOG)
    times, _ = read_times("dataset.time", log["time"])
    times_of = {"time": times}
    for spec in dataset.histories:
        if spec.time is not None:
            fine, _ = read_times(f"dataset.features.{spec.name}.time", log[spec.time_column])
            times_of[spec.time_column] = align_times(fine, times, log["trains"].to_numpy())
    before = _compute(dataset, log, folder / "before")
    draw = np.random.default_rng(seed)
    leaks, moved = ({spec.name: 0 for spec in dataset.histories} for _ in range(2))
    for trial, instant in enumerate(np.quantile(times, draw.uniform(0.2, 0.8, TRIALS), method="nearest")):
        later = np.flatnonzero(times >= instant)
        order = np.arange(log.height)
        order[later] = draw.permutation(later)
        outcomes = [name for name in log.columns if name.startswith(("feeds", "number/", "value/", "where/"))]
        after = _compute(dataset, log.with_columns(log.select(outcomes)[order]), folder / str(trial))
        for spec in dataset.histories:
            differs = _differs(before, after, spec.name)
            own = times_of[spec.time_column]
            may_differ = own >= own[later].min() + before.lags[spec.name]
            leaks[spec.name] += int((differs & ~may_differ).sum())
            moved[spec.name] += int((differs & may_differ).sum())
    return [LeakCheck(spec.name, leaks[spec.name], moved[spec.name]) for spec in dataset.histories]


def _compute(dataset: Dataset, log: pl.DataFrame, folder: Path) -> Histories:
    folder.mkdir()
    log.write_ipc(folder / LOG)
    settings = dataset.history
    return compute_histories(folder / LOG, dataset.histories, folder, settings.lag, settings.until)


def _differs(before: Histories, after: Histories, name: str) -> NDArray[np.bool_]:
    if name in before.numbers:
        return before.numbers[name].view(np.int32) != after.numbers[name].view(np.int32)
    return _hashes(before.sequences[name]) != _hashes(after.sequences[name])


def _hashes(sequence: HistorySequence) -> NDArray[np.uint64]:
    """Return a hash of every row's list: the sum of hashes of its values and their places."""
    events = sequence.events.collect().hash_rows().to_numpy()
    lengths = sequence.lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    inside = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    values = events[np.repeat(sequence.starts, lengths) + inside]
    # The running sum wraps around: a difference of two is exact all the same.
    running = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix(values ^ mix(inside.astype(np.uint64))))))
    return running[ends] - running[ends - lengths]
