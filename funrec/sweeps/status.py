"""The state of runs and sweeps in words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from funrec.runs import folder as run_folder
from funrec.runs.folder import State
from funrec.sweeps.plan import PLAN, Job, Sweep, by_key, is_led, is_sweep, read_sweep, resume_command
from funrec.utils.errors import InputError

#: In the order of a summary; a job that has not started has no run in its folder.
STATES: dict[State, str] = {
    "finished": "finished",
    "running": "running",
    "interrupted": "interrupted",
    "pruned": "pruned",
    "failed": "failed",
    "absent": "waiting",
}


def describe(paths: Sequence[str]) -> Iterator[str]:
    """Yield a table for each sweep, with a line that counts, and how to go on; one table for the runs of no sweep.

    Told from kernel locks and records: a process that was killed cannot leave a wrong answer behind.

    Raises:
        InputError: If there is nothing under a path.
    """
    sweeps: dict[Path, Sweep] = {}
    runs: list[Path] = []
    for path in paths:
        below = {place: read_sweep(place) for place in _sweeps_below(Path(path))}
        try:
            runs += run_folder.find_runs(path)
        except InputError:
            if not below:
                raise
        sweeps |= below
    for place, sweep in sorted(sweeps.items()):
        yield _describe_sweep(sweep, [run for run in runs if place in run.parents])
    single = [run for run in dict.fromkeys(runs) if sweeps.keys().isdisjoint(run.parents)]
    if single:
        yield _table(["run", "state", "note"], [[str(run), *_cells(run)] for run in single])
        stopped = [run for run in single if run_folder.status(run).state == "interrupted"]
        yield from (f"To go on: {resume_command(run)}" for run in stopped)


def _describe_sweep(sweep: Sweep, runs: Sequence[Path]) -> str:
    folders = [sweep.folder(job) for job in sweep.jobs]
    asked = {sweep.folder(job): _swept(sweep, job) for job in sweep.jobs}
    baselines = [run for run in runs if run not in asked]
    rows = [[run.name, asked.get(run, "baseline"), *_cells(run)] for run in (*folders, *baselines)]
    states = Counter(run_folder.status(folder).state for folder in folders)
    counts = [f"{states[state]} {name}" for state, name in STATES.items() if states[state]]
    lines = [
        _table(["job", "asked for", "state", "note"], rows),
        f"{sweep.path}: {len(folders)} jobs, {', '.join(counts)}.",
    ]
    if is_led(sweep.path):
        lines[-1] += " The sweep is running."
    elif states["finished"] < len(folders):
        lines[-1] += f" To go on: {resume_command(sweep.path)}"
    return "\n".join(lines)


def _swept(sweep: Sweep, job: Job) -> str:
    asked = by_key(job.overrides)
    return " ".join(f"{key}={asked[key]}" for key in ("model", *sweep.swept) if key in asked)


def _cells(run: Path) -> list[str]:
    found = run_folder.status(run)
    return [STATES[found.state], found.reason if found.state == "failed" else found.progress]


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers, tablefmt="grid", disable_numparse=True)


def _sweeps_below(place: Path) -> Iterator[Path]:
    if is_sweep(place):
        yield place
        return
    for folder, subfolders, files in os.walk(place):
        if PLAN in files:
            yield Path(folder)
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
