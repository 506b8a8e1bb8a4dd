"""A run folder: making one, holding it while the run lives, and telling its state."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from funrec.utils.errors import InputError
from funrec.utils.files import one_line, read_json, read_notes, write_json

RECORD = "record.json"
FAILURE = "failure.json"
LOCK = ".lock"
CHECKPOINT = "checkpoint.npz"

State = Literal["absent", "running", "interrupted", "failed", "pruned", "finished"]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run folder.

    Attributes:
        state: `absent` (no run here), `running`, `interrupted` (stopped from outside, or its process died without a
            word), `failed`, `pruned` (a tuner gave it up) or `finished`.
        reason: Why it failed or was given up; empty in every other state.
        progress: How far its last checkpoint is, such as `after epoch 2 of 4`; empty where there is none to go on from.
    """

    state: State
    reason: str = ""
    progress: str = ""


def new_run_folder(parent: str | Path, name: str) -> Path:
    """Create `parent/name`, or `parent/name_2` and so on where it exists, and return it.

    Creation is exclusive: two runs that start in the same second never share a folder.

    Raises:
        InputError: If the folder cannot be created.
    """
    number = 1
    while True:
        folder = Path(parent) / (name if number == 1 else f"{name}_{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not os.path.lexists(folder):  # a file stands where a parent folder should be
                raise InputError(f"{folder.parent} should be a folder. Received: a file. Choose another.") from None
            number += 1
        except OSError as error:
            raise InputError(f"{folder} cannot be created: {error.strerror}. Choose another output folder.") from error
        else:
            return folder


class RunLock:
    """Held by a run while it lives: `with RunLock(folder): ...`.

    A kernel lock (`flock`) on `<folder>/.lock`. It dies with the process, however that ends, so nobody has to
    clean up after a crash. Entering removes an earlier attempt's failure note.

    Raises:
        InputError: On entering, if the folder holds a finished run, another process runs in it, or it cannot
            be written.
    """

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        try:
            descriptor = os.open(self.run / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{self.run} should be a folder to write to: {error.strerror}. Choose another.") from error
        try:
            _lock_for_writing(descriptor, self.run)
            if (self.run / RECORD).exists():
                raise InputError(f"{self.run} holds a finished run already. Choose another output folder.")
            with suppress(FileNotFoundError):
                (self.run / FAILURE).unlink()
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # which releases the lock
            self._descriptor = None


@contextmanager
def locked(run: str | Path) -> Iterator[None]:
    """Keep everybody from running in a folder.

    Raises:
        BlockingIOError: If somebody does.
        OSError: If its lock cannot be opened.
    """
    descriptor = os.open(Path(run) / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def status(run: str | Path) -> Status:
    """Derive the state of a run folder. Reads only, so that it works on other people's runs too."""
    run = Path(run)
    if (run / RECORD).is_file():
        return Status("finished")
    if _is_locked(run):
        return Status("running", progress=progress(run))
    if (run / RECORD).is_file():  # it finished between the two looks
        return Status("finished")
    if (run / FAILURE).is_file():
        state, reason = read_failure(run)
        return Status(state, reason, progress(run))
    return Status("interrupted", progress=progress(run)) if (run / LOCK).is_file() else Status("absent")


def write_failure(run: str | Path, reason: str, state: Literal["failed", "pruned"] = "failed") -> None:
    """Leave a note that says why the run stopped, in one line.

    Raises:
        InputError: If the folder cannot be written.
    """
    note = {"state": state, "reason": one_line(reason), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(Path(run) / FAILURE, note)


def read_failure(run: str | Path) -> tuple[Literal["failed", "pruned"], str]:
    """Return what `write_failure` wrote: the state and its reason."""
    try:
        note = read_json(Path(run) / FAILURE)
    except (OSError, InputError):
        note = None
    if not isinstance(note, dict):
        return "failed", f"{FAILURE} cannot be read"
    return "pruned" if note.get("state") == "pruned" else "failed", str(note.get("reason", ""))


def checkpoint_notes(run: str | Path) -> dict[str, Any] | None:
    """Return what a run's checkpoint says of itself; none if there is none, or it is damaged."""
    try:
        return read_notes(Path(run) / CHECKPOINT)
    except (OSError, InputError):
        return None


def progress(run: str | Path) -> str:
    """Return how far a run's last checkpoint is, such as `after epoch 2 of 4`; empty where there is none."""
    return str((checkpoint_notes(run) or {}).get("position", ""))


def find_runs(path: str | Path) -> list[Path]:
    """Return the run folders that `path` names: one run, a folder of runs at any depth, or a glob of either.

    Finished or not; sorted, numbers as numbers (job 2 before job 10).

    Raises:
        InputError: If there is no such path or no run in it.
    """
    places = [Path(path)] if Path(path).exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
    if not places:
        raise InputError(f"{path} should be a run folder, a folder of runs or a glob. Received: nothing there.")
    runs = {run for place in places for run in _runs_below(place)}
    if not runs:
        raise InputError(f"{path} should hold at least one run. Received: none with a {RECORD} or a {LOCK} in it.")
    # `**` also matches what is inside a run.
    return sorted((run for run in runs if runs.isdisjoint(run.parents)), key=_natural_order)


def is_finished(folder: str | Path) -> bool:
    """Whether a run finished in this folder."""
    return (Path(folder) / RECORD).is_file()


def is_run(folder: str | Path) -> bool:
    """Whether a run was started in this folder."""
    return any((Path(folder) / name).is_file() for name in (RECORD, FAILURE, LOCK))


def _runs_below(place: Path) -> Iterator[Path]:
    for folder, subfolders, _ in os.walk(place):
        if is_run(folder):
            yield Path(folder)
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _lock_for_writing(descriptor: int, run: Path) -> None:
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)  # it may be someone who looks at the state, for an instant
        else:
            return
    raise InputError(f"{run} should have one run at a time, and another process runs in it. Choose another folder.")


def _is_locked(run: Path) -> bool:
    try:
        descriptor = os.open(run / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared: two who look at the same time do not take each other for the run.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
