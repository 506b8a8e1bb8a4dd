"""What became of runs and sweeps, read from their folders: tables, lines as jobs end, and how to resume."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tabulate import tabulate

from funrec.metrics import table_columns
from funrec.runs.folder import FAILURE, RECORD, State, find_runs, is_finished, is_run, status
from funrec.runs.record import read
from funrec.runs.tables import render, rows_from_records
from funrec.sweeps.plan import LOCK, PLAN, Job, Sweep, by_key, is_sweep, read_sweep, resume_command
from funrec.sweeps.schedule import DAILY, mean_rows
from funrec.utils.errors import InputError
from funrec.utils.locks import is_locked

#: States of runs in the order of a summary, as they are called; a job that has not started has no run in its folder.
STATES: dict[State, str] = {
    **{state: state for state in ("finished", "running", "interrupted", "pruned", "failed")},
    "absent": "waiting",
}

#: Seconds between looks at the jobs' folders, where the jobs of every launcher leave how they ended.
INTERVAL = 0.5

#: Characters in a line of a failure's reason.
REASON_WIDTH = 80


def failures(sweep: Sweep) -> Iterator[tuple[list[str], str]]:
    """Yield the overrides of what failed and the reason, in the order of the jobs."""
    for job, folder in _runs(sweep):
        if (found := status(folder)).state == "failed":
            overrides = job.overrides
            if folder != sweep.folder(job):
                model = folder.name.removeprefix(f"{sweep.folder(job).name}_")
                overrides = [*(asked for asked in overrides if not asked.startswith("model=")), f"model={model}"]
            yield overrides, found.reason


def has_failed(sweep: Sweep) -> bool:
    """Whether any of a sweep's runs failed."""
    return next(failures(sweep), None) is not None


def not_started(sweep: Sweep) -> int:
    """Return how many jobs have not been started."""
    return sum(status(sweep.folder(job)).state == "absent" for job in sweep.jobs)


def render_sweep(sweep: Sweep, width: int | None = None) -> str:
    """Return a table of all finished runs (the model, what was swept, the metrics), and one of those that failed.

    Args:
        sweep: The plan.
        width: Characters in a line of the terminal, if the table goes to one.
    """
    swept = sweep.swept
    rows = rows_from_records(
        done | {"swept": {key: by_key(done["overrides"]).get(key, "") for key in swept}}
        for done in (read(folder) for _, folder in _runs(sweep) if is_finished(folder))
    )
    tables = []
    if DAILY in sweep.command:
        rows += list(mean_rows(rows, swept))
    if rows:
        metrics = table_columns({name for row in rows for name in row} - {"model", *swept})
        tables.append(render(rows, columns=["model", *swept, *metrics], width=width))
    failed, given = [], set[str]()
    for overrides, reason in failures(sweep):
        asked = by_key(overrides)
        failed.append([*(asked.get(key, "") for key in ("model", *swept)), "the same" if reason in given else reason])
        given.add(reason)
    if failed:
        tables.append(_table(["model", *swept, "failed"], failed))
    return "\n\n".join(tables) or "No job has ended."


@contextmanager
def reporting(sweep: Sweep) -> Iterator[None]:
    """Write a line to standard error as each job of a sweep ends: how well it did, how many are left, how long."""
    reporter, is_over = _Reporter(sweep), Event()

    def look() -> None:
        while not is_over.wait(INTERVAL):
            reporter.look()

    thread = Thread(target=look, name="funrec-reporter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        reporter.look()


class _Reporter:
    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._started, self._ended = sweep, time.monotonic(), 0
        self._left = [job for job in sweep.jobs if not self._has_ended(job)]
        self._failed: dict[str, int] = {}

    def look(self) -> None:
        for job in [job for job in self._left if self._has_ended(job)]:
            self._left.remove(job)
            self._ended += 1
            total, left = len(self._sweep.jobs), len(self._left)
            line = f"job {job.number} ({_swept(self._sweep, job, name_model=False)}): {self._result(job)}; "
            sys.stderr.write(f"{line}{total - left} of {total} done{self._time_left()}\n")
            sys.stderr.flush()

    def _has_ended(self, job: Job) -> bool:
        folder = self._sweep.folder(job)
        return (folder / RECORD).is_file() or (folder / FAILURE).is_file()

    def _result(self, job: Job) -> str:
        if (found := status(self._sweep.folder(job))).state != "finished":
            first = self._failed.setdefault(found.reason, job.number)
            return f"failed: {found.reason}" if first == job.number else f"failed, as job {first}"
        try:
            done = read(self._sweep.folder(job))
        except InputError as error:
            return str(error)
        metric = next((name for name in ("auc_macro", *done["metrics"]) if name in done["metrics"]), None)
        took = sum((done.get("seconds") or {}).values())
        return (f"{metric} {done['metrics'][metric]:.4f}, " if metric else "") + f"{took:.1f} s"

    def _time_left(self) -> str:
        if not self._left:
            return ""
        seconds = (time.monotonic() - self._started) / self._ended * len(self._left)
        return f", about {seconds:.0f} s left" if seconds < 100 else f", about {seconds / 60:.0f} min left"


def describe(paths: Sequence[str]) -> Iterator[str]:
    """Yield a table for each sweep, with counts and how to resume; and one table for the runs of no sweep.

    Derived from kernel locks and records: a process that was killed cannot leave a wrong answer.
    """
    sweeps: dict[Path, Sweep] = {}
    runs: list[Path] = []
    for path in paths:
        below = {place: read_sweep(place) for place in _sweeps_below(Path(path))}
        try:
            runs += find_runs(path)
        except InputError:
            if not below:
                raise
        sweeps |= below
    for place, sweep in sorted(sweeps.items()):
        yield _describe_sweep(sweep, [run for run in runs if place in run.parents])
    single = [run for run in dict.fromkeys(runs) if sweeps.keys().isdisjoint(run.parents)]
    if single:
        yield _table(["run", "state", "note"], [[str(run), *_cells(run)] for run in single])
        stopped = [run for run in single if status(run).state == "interrupted"]
        yield from (f"To go on: {resume_command(run)}" for run in stopped)


def _describe_sweep(sweep: Sweep, runs: Sequence[Path]) -> str:
    folders = [sweep.folder(job) for job in sweep.jobs]
    asked = {sweep.folder(job): _swept(sweep, job) for job in sweep.jobs}
    baselines = [run for run in runs if run not in asked]
    rows = [[run.name, asked.get(run, "baseline"), *_cells(run)] for run in (*folders, *baselines)]
    states = Counter(status(folder).state for folder in folders)
    counts = [f"{states[state]} {name}" for state, name in STATES.items() if states[state]]
    lines = [
        _table(["job", "asked for", "state", "note"], rows),
        f"{sweep.path}: {len(folders)} jobs, {', '.join(counts)}.",
    ]
    if is_locked(sweep.path / LOCK):
        lines[-1] += " The sweep is running."
    elif states["finished"] < len(folders):
        lines[-1] += f" To go on: {resume_command(sweep.path)}"
    return "\n".join(lines)


def _swept(sweep: Sweep, job: Job, name_model: bool = True) -> str:
    """Return a job's model and what was swept: `model=mmoe seed=1`, or without the key `mmoe seed=1`."""
    asked = by_key(job.overrides)
    model = [f"model={asked['model']}" if name_model else asked["model"]] if "model" in asked else []
    return " ".join([*model, *(f"{key}={asked[key]}" for key in sweep.swept if key in asked)])


def _cells(run: Path) -> list[str]:
    found = status(run)
    return [STATES[found.state], found.reason if found.state == "failed" else found.progress]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    widths = [*[None] * (len(headers) - 1), REASON_WIDTH]
    return tabulate(rows, headers, tablefmt="grid", disable_numparse=True, maxcolwidths=widths)


def _runs(sweep: Sweep) -> Iterator[tuple[Job, Path]]:
    """Yield every job's folder, and those of its baselines after it."""
    from funrec.experiment.baselines import BASELINES

    for job in sweep.jobs:
        folder = sweep.folder(job)
        yield job, folder
        for name in BASELINES if job.baselines else ():
            if is_run(sibling := folder.with_name(f"{folder.name}_{name}")):
                yield job, sibling


def _sweeps_below(place: Path) -> Iterator[Path]:
    if is_sweep(place):
        yield place
        return
    for folder, subfolders, files in os.walk(place):
        if PLAN in files:
            yield Path(folder)
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
