"""What became of a sweep's jobs, read from their folders: it does not matter which process ran them, or when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funrec.metrics import table_columns
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.tables import render, rows_from_records
from funrec.sweeps.plan import Job, Sweep, by_key


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed: what it was asked for, and why it is none."""

    overrides: list[str]
    reason: str


def state(sweep: Sweep, job: Job) -> run_folder.Status:
    """Return a job's state; one that has not started is `absent`."""
    return run_folder.status(sweep.folder(job))


def finished(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield the record of every finished run of a sweep, a job's baselines after its own."""
    for _, folder in _runs(sweep):
        if run_folder.status(folder).state == "finished":
            yield record.read(folder)


def failures(sweep: Sweep) -> Iterator[Failure]:
    """Yield what failed, in the order of the jobs."""
    for job, folder in _runs(sweep):
        if run_folder.status(folder).state == "failed":
            overrides = job.overrides
            if folder != sweep.folder(job):
                model = folder.name.removeprefix(f"{sweep.folder(job).name}_")
                overrides = [*(asked for asked in overrides if not asked.startswith("model=")), f"model={model}"]
            yield Failure(overrides, run_folder.status(folder).reason)


def has_failed(sweep: Sweep) -> bool:
    """Whether any of a sweep's runs failed."""
    return next(failures(sweep), None) is not None


def not_started(sweep: Sweep) -> int:
    """Return how many jobs have not been started."""
    return sum(state(sweep, job).state == "absent" for job in sweep.jobs)


def render_sweep(sweep: Sweep, width: int | None = None) -> str:
    """Return one table of all that ran: the model, what was swept, the metrics; why, where a job failed.

    Args:
        sweep: The plan.
        width: Characters in a line of the terminal, if the table goes to one.
    """
    swept = sweep.swept
    rows = rows_from_records(
        done | {"swept": {key: by_key(done["overrides"]).get(key, "") for key in swept}} for done in finished(sweep)
    )
    failed = list(failures(sweep))
    if not rows and not failed:
        return "No job has ended."
    for failure in failed:
        asked = by_key(failure.overrides)
        rows.append({key: asked.get(key, "") for key in ("model", *swept)} | {"failed": failure.reason})
    metrics = table_columns({name for row in rows for name in row} - {"model", "failed", *swept})
    return render(
        rows, columns=["model", *swept, *metrics, *(["failed"] if failed else [])] if rows else (), width=width
    )


def _runs(sweep: Sweep) -> Iterator[tuple[Job, Path]]:
    """Yield every job's folder, and those of its baselines."""
    from funrec.experiment.baselines import BASELINES

    for job in sweep.jobs:
        folder = sweep.folder(job)
        yield job, folder
        for name in BASELINES if job.baselines else ():
            if run_folder.is_run(sibling := folder.with_name(f"{folder.name}_{name}")):
                yield job, sibling
