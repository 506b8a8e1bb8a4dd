"""The plan of a sweep: `sweep.json`, written before the first job starts, so that any process can go on with it.

A sweep is a folder:

    sweep.json            what was asked for, and the jobs that makes
    .sweep.lock           held by the kernel for as long as the process that leads the sweep lives
    0/, 1/, ...           a run folder per job, those of its baselines beside it (0_logistic/)
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from funrec.runs.folder import is_run
from funrec.runs.provenance import origin
from funrec.utils.errors import InputError
from funrec.utils.files import read_json, write_json
from funrec.utils.locks import MOMENT, is_locked, take_lock

PLAN = "sweep.json"
LOCK = ".sweep.lock"


@dataclass(frozen=True, slots=True)
class Job:
    """One combination of a sweep.

    Attributes:
        number: Its place, from 0.
        folder: Its run folder's name within the sweep's.
        overrides: What it asks for on top of the defaults.
        fingerprint: Of its configuration; none if the combination cannot be composed.
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
        force: Whether jobs go on with what an older configuration, data or code has begun.
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
        return [key for key in keys if key != "model" and len({job.get(key) for job in values}) > 1]

    def write(self) -> None:
        """Write the plan into the sweep's folder, whole or not at all.

        Raises:
            InputError: If the folder cannot be written.
        """
        write_json(self.path / PLAN, {key: value for key, value in asdict(self).items() if key != "path"})


def read_sweep(path: str | Path) -> Sweep:
    """Return the plan of the sweep in a folder.

    Raises:
        InputError: If there is none, or it is damaged.
    """
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
    """Return the sweep that a run folder belongs to, and the job that it is; none if it belongs to none."""
    for parent in run.parents:
        if is_sweep(parent):
            sweep = read_sweep(parent)
            name = run.relative_to(parent).as_posix()
            return next(((sweep, job) for job in sweep.jobs if job.folder == name), None)
    return None


@contextmanager
def leading(path: Path, is_new: bool) -> Iterator[None]:
    """Hold a sweep's folder, made if it is new: one process leads a sweep, and no two sweeps share a folder.

    Raises:
        InputError: If another process leads a sweep there, a new one would meet what is there already, or the
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
            raise InputError(f"{path} holds a sweep already. Go on with it: {resume_command(path)}; or choose another.")
        if is_new and any(is_run(folder) for folder in path.iterdir()):
            raise InputError(f"{path} holds a run already. Choose another folder for the sweep.")
        yield
    finally:
        lock.release()


def is_led(path: Path) -> bool:
    """Whether a process leads the sweep in a folder right now."""
    return is_locked(path / LOCK)


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash what a configuration computes: two with the same fingerprint give the same run."""
    settings = origin(config, "")["settings"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides as values by key."""
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def resume_command(path: Path) -> str:
    """Return the command that goes on with a sweep or a run."""
    with_here = os.path.relpath(path)
    return f"funrec resume {shlex.quote(str(path) if with_here.startswith('..') else with_here)}"
