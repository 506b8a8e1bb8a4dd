"""The plan of a sweep: `sweep.json`, written before the first job starts, so that any process can resume it.

A sweep is a folder:

    sweep.json            what was asked for, and the jobs that makes
    .sweep.lock           held by the kernel for as long as the process that runs the sweep lives
    0/, 1/, ...           a run folder per job, those of its baselines beside it (0_logistic/)
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from funrec.runs.folder import is_finished, is_run, status
from funrec.runs.provenance import check_origin, differences, origin
from funrec.runs.record import read
from funrec.sweeps.schedule import DAILY, FOLLOWING
from funrec.utils.errors import InputError
from funrec.utils.files import read_json, write_json
from funrec.utils.locks import MOMENT, take_lock

PLAN = "sweep.json"
LOCK = ".sweep.lock"


@dataclass(frozen=True, slots=True)
class Job:
    """One combination of a sweep.

    Attributes:
        number: Its place, from 0.
        folder: Its run folder's name within the sweep's.
        overrides: What it asks for on top of the defaults.
        fingerprint: Of its configuration; None if the combination cannot be composed.
        baselines: Whether it runs the baselines too, for all jobs with its data.
    """

    number: int
    folder: str
    overrides: list[str]
    fingerprint: str | None
    baselines: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep's plan.

    Attributes:
        path: The sweep's folder.
        command: The arguments of `funrec run` that it came from.
        started_in: The working folder, which relative paths in them start from.
        allow: Packages that configurations may name, beside funrec's.
        fail_fast: Whether no job starts once one has failed.
        force: Whether to resume jobs whose configuration, data or code has changed.
        jobs: All of them, by number.
    """

    path: Path
    command: list[str]
    started_in: str
    allow: str
    fail_fast: bool
    force: bool
    jobs: list[Job]

    def folder(self, job: Job) -> Path:
        """Return a job's run folder."""
        return self.path / job.folder

    @property
    def swept(self) -> list[str]:
        """The keys whose value differs between jobs; the model is the row's label and needs no column."""
        values = [by_key(job.overrides) for job in self.jobs]
        keys = dict.fromkeys(key for job in values for key in job)
        hidden = ("model", *(FOLLOWING if DAILY in self.command else ()))
        return [key for key in keys if key not in hidden and len({job.get(key) for job in values}) > 1]

    def write(self) -> None:
        """Write the plan into the sweep's folder, whole or not at all."""
        write_json(self.path / PLAN, {key: value for key, value in asdict(self).items() if key != "path"})


def read_sweep(path: str | Path) -> Sweep:
    """Return the plan of the sweep in a folder."""
    path = Path(path)
    try:
        plan = read_json(path / PLAN)
        return Sweep(path=path, **{**plan, "jobs": [Job(**job) for job in plan["jobs"]]})
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} should be a sweep's folder. Received: one without a {PLAN}.") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / PLAN} should be a sweep's plan. Received: something else ({error}).") from error


def is_sweep(path: str | Path) -> bool:
    """Whether a sweep was started in this folder."""
    return (Path(path) / PLAN).is_file()


def sweep_of(run: Path) -> tuple[Sweep, Job] | None:
    """Return the sweep that a run folder belongs to, and the job that it is; None if it belongs to no sweep."""
    for parent in run.parents:
        if is_sweep(parent):
            sweep = read_sweep(parent)
            name = run.relative_to(parent).as_posix()
            return next(((sweep, job) for job in sweep.jobs if job.folder == name), None)
    return None


@contextmanager
def leading(path: Path, is_new: bool) -> Iterator[None]:
    """Hold a sweep's folder, made if it is new: one process runs a sweep, and no two sweeps share a folder.

    Raises:
        InputError: If another process runs a sweep there, a new one finds a sweep or a run there already, or the
            folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} should be a folder to write to: {error.strerror}. Choose another.") from error
    if (lock := take_lock(path / LOCK, wait=MOMENT)) is None:
        raise InputError(f"{path} should have one sweep at a time, and another process runs one in it.")
    try:
        if is_new and is_sweep(path):
            raise InputError(f"{path} holds a sweep already. Resume it: {resume_command(path)}; or choose another.")
        if is_new and any(is_run(folder) for folder in path.iterdir()):
            raise InputError(f"{path} holds a run already. Choose another folder for the sweep.")
        yield
    finally:
        lock.release()


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash what a configuration computes: two with the same fingerprint give the same run."""
    settings = origin(config, "")["settings"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides as values by key."""
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def resume_command(path: Path) -> str:
    """Return the command that resumes a sweep or a run."""
    with_here = os.path.relpath(path)
    return f"funrec resume {shlex.quote(str(path) if with_here.startswith('..') else with_here)}"


def is_done(sweep: Sweep, job: Job) -> bool:
    """Whether a job's own run is finished, and those of its baselines."""
    from funrec.experiment.baselines import BASELINES, POPULARITY

    folder = sweep.folder(job)
    if not is_finished(folder):
        return False
    if not job.baselines:
        return True
    done = read(folder)
    has_items = done["config"]["dataset"].get("item") is not None
    return all(
        is_finished(folder.with_name(f"{folder.name}_{name}"))
        for name in BASELINES
        if name != done["label"] and (name != POPULARITY or has_items)
    )


def check_same_jobs(planned: Sweep, now: Sweep) -> None:
    """Check that a sweep's command still makes the jobs that it was planned with."""
    for before, after in zip(planned.jobs, now.jobs, strict=False):
        if before.overrides != after.overrides or before.folder != after.folder:
            raise InputError(
                f"{now.path}: job {before.number} should be {' '.join(before.overrides)}. Received: "
                f"{' '.join(after.overrides)}. Its command means other jobs now; start a new sweep."
            )
    if len(planned.jobs) != len(now.jobs):
        raise InputError(
            f"{now.path} should have {len(planned.jobs)} jobs. Received: {len(now.jobs)} from the same command. "
            "Its configuration files have changed; start a new sweep."
        )


def check_unchanged(planned: Sweep, now: Sweep, configs: Sequence[Mapping[str, Any]]) -> None:
    """Check that the unfinished jobs would run on the configuration and the data of the finished ones.

    Args:
        planned: The sweep as it was planned.
        now: The same, as its command composes today.
        configs: Today's configuration of every job; empty for one that cannot be composed.
    """
    # Polars starts threads, and reads how many when it is imported: after a job's environment is set.
    from funrec.config.build import build
    from funrec.data.datasets.base import Dataset
    from funrec.data.preparation.cache import fingerprint as data_fingerprint

    data: dict[str, str] = {}
    for before, after, config in zip(planned.jobs, now.jobs, configs, strict=True):
        folder, changed = now.folder(after), []
        if is_finished(folder):
            done = read(folder)
            dataset = json.dumps(config.get("dataset"), sort_keys=True)
            if config and dataset not in data:
                data[dataset] = data_fingerprint(build(config["dataset"], Dataset, "dataset"))
            ran = origin(done["config"], done["data_fingerprint"])
            changed = differences(ran, origin(config, data.get(dataset, "")))
        elif config and before.fingerprint is not None:
            check_origin(config, folder, force=False)
            changed = ["configuration files"] if before.fingerprint != after.fingerprint else []
        if changed:
            raise InputError(
                f"{folder} should be resumed as the sweep began. Changed since: {'; '.join(changed)}. "
                "Change it back, or pass --force: finished jobs stay, the others run on what is there now."
            )


def wait_until_stopped(sweep: Sweep, seconds: float = 60.0) -> None:
    """Wait for jobs that outlived the process of the sweep: they stop by themselves, with a checkpoint."""
    deadline = time.monotonic() + seconds
    while running := [job for job in sweep.jobs if status(sweep.folder(job)).state == "running"]:
        if time.monotonic() > deadline:
            raise InputError(f"{sweep.folder(running[0])} should have stopped, and is running. End its process first.")
        time.sleep(0.2)
