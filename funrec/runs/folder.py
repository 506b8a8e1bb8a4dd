"""A run folder: making one, holding it while the run lives, telling its state, and cleaning up."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from funrec.utils.errors import InputError
from funrec.utils.files import one_line, read_json, read_notes, write_json
from funrec.utils.locks import MOMENT, is_locked, take_lock

RECORD = "record.json"
FAILURE = "failure.json"
LOCK = ".lock"
CHECKPOINT = "checkpoint.npz"
BEST_WEIGHTS = "model/weights.npz"
TENSORBOARD = "tensorboard"
#: The folders within a run's that hold its files.
_INNER = ("model", ".hydra", TENSORBOARD)

#: All files that a run writes. Any other file in its folder is the user's, and stays.
_OWN = re.compile(
    r"funrec\.log|history\.parquet|predictions\.parquet|checkpoint\.npz|failure\.json|fusion\.json|\.lock"
    r"|\.hydra/(config|overrides|hydra)\.yaml|model/(inputs\.json|calibration\.json|weights\.npz|vocabulary_\d+\.parquet)"
    r"|tensorboard/events\.out\.tfevents\..+|\.tracking\.lock"
)
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.tmp")  # see `funrec.utils.files.replacing`

State = Literal["absent", "running", "interrupted", "failed", "pruned", "finished"]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run folder.

    Attributes:
        state: `absent` (no run here), `running`, `interrupted` (stopped from outside, or its process died without a
            word), `failed`, `pruned` (a tuner gave it up) or `finished`.
        reason: Why it failed or was given up; empty in every other state.
        progress: How far its last checkpoint is, such as `after epoch 2 of 4`; empty without one.
    """

    state: State
    reason: str = ""
    progress: str = ""


def new_run_folder(parent: str | Path, name: str) -> Path:
    """Create `parent/name`, or `parent/name_2` and so on where it exists, and return it.

    Creation is exclusive: two runs that start in the same second never share a folder.
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


@contextmanager
def hold(run: str | Path) -> Iterator[None]:
    """Hold a run's folder while the run lives. Entering removes an earlier attempt's failure note.

    Raises:
        InputError: On entering, if the folder holds a finished run, another process runs in it, or it cannot
            be written.
    """
    run = Path(run)
    if (lock := take_lock(run / LOCK, wait=MOMENT)) is None:
        raise InputError(f"{run} should have one run at a time, and another process runs in it. Choose another folder.")
    try:
        if (run / RECORD).exists():
            raise InputError(f"{run} holds a finished run already. Choose another output folder.")
        (run / FAILURE).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def status(run: str | Path) -> Status:
    """Derive the state of a run folder. Reads only, so that it works on other people's runs too."""
    run = Path(run)
    if (run / RECORD).is_file():
        return Status("finished")
    if is_locked(run / LOCK):
        return Status("running", progress=progress(run))
    if (run / RECORD).is_file():  # it finished between the two looks
        return Status("finished")
    if (run / FAILURE).is_file():
        state, reason = read_failure(run)
        return Status(state, reason, progress(run))
    return Status("interrupted", progress=progress(run)) if (run / LOCK).is_file() else Status("absent")


def write_failure(run: str | Path, reason: str, state: Literal["failed", "pruned"] = "failed") -> None:
    """Leave a note that says why the run stopped, in one line."""
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
    """Return the notes in a run's checkpoint; None if it is missing or damaged."""
    try:
        return read_notes(Path(run) / CHECKPOINT)
    except (OSError, InputError):
        return None


def progress(run: str | Path) -> str:
    """Return how far a run's last checkpoint is, such as `after epoch 2 of 4`; empty without one."""
    return str((checkpoint_notes(run) or {}).get("position", ""))


def find_runs(path: str | Path) -> list[Path]:
    """Return the run folders that `path` names: one run, a folder of runs at any depth, or a glob of either.

    Finished or not; sorted, numbers as numbers (job 2 before job 10).
    """
    places = [Path(path)] if Path(path).exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
    if not places:
        raise InputError(f"{path} should be a run folder, a folder of runs or a glob. Received: nothing there.")
    runs = {run for place in places for run in _runs_below(place)}
    if not runs:
        raise InputError(f"{path} should hold at least one run. Received: no folder with a {RECORD} or a {LOCK}.")
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


def removable(path: str | Path) -> list[Path]:
    """Return what `funrec clean` may remove from the runs that `path` names.

    Of a run that was interrupted or failed, all that it wrote: the folder if nothing else is in it, else its files.
    Of a run that finished or was pruned, what `trainer.keep` does not keep and temporary files of a killed process.
    Nothing of a run that is running.
    """
    return [found for run in find_runs(path) if status(run).state != "running" for found in _removable(run)]


def remove(found: Iterable[Path]) -> list[Path]:
    """Remove what `removable` returned, and return what is gone. A run that was resumed meanwhile keeps everything."""
    by_run: dict[Path, list[Path]] = {}
    for path in found:
        run = next((folder for folder in (path, *path.parents) if is_run(folder)), None)
        if run is not None:
            by_run.setdefault(run, []).append(path)
    return [gone for run, paths in by_run.items() for gone in _remove(run, paths)]


def remove_weights(run: str | Path, keep: str) -> None:
    """Remove the weights that a finished run does not keep: see `trainer.keep`."""
    for path in _not_kept(Path(run), keep):
        path.unlink(missing_ok=True)


def remove_temporary_files(run: str | Path) -> None:
    """Remove what a process was writing when it was killed. Only for the holder of the run's lock."""
    for path in _temporary_files(Path(run)):
        path.unlink(missing_ok=True)


def _remove(run: Path, found: Sequence[Path]) -> Iterator[Path]:
    try:
        if (lock := take_lock(run / LOCK)) is None:
            return
        try:
            may_go = _removable(run)
            for path in [path for path in found if path in may_go]:
                for file in _own_files(run) if path == run else [path]:
                    file.unlink(missing_ok=True)
                for folder in (*(run / name for name in _INNER), run):
                    with suppress(OSError):  # something else is in it
                        folder.rmdir()
                yield path
        finally:
            lock.release()
    except OSError as error:
        raise InputError(f"{run} cannot be cleaned: {error.strerror or error}. Remove it by hand.") from error


def _removable(run: Path) -> list[Path]:
    """Return what may go from a run that is not running."""
    keep = None
    if (run / RECORD).is_file():
        try:
            keep = read_json(run / RECORD)["config"]["trainer"]["keep"]
        except (OSError, InputError, KeyError, TypeError):  # damaged, or older than the setting
            keep = "best"
    elif (run / FAILURE).is_file() and read_failure(run)[0] == "pruned":
        keep = "none"
    if keep is not None:
        return [path for path in (*_not_kept(run, keep), *_temporary_files(run)) if path.is_file()]
    own = _own_files(run)
    is_all = set(own) == {path for path in run.rglob("*") if path.is_symlink() or not path.is_dir()}
    return [run] if is_all else own


def _own_files(run: Path) -> list[Path]:
    """Return the files that a run wrote, its lock last, so that it stays a run until everything else is gone."""
    known = [path for folder in (run, *(run / name for name in _INNER)) for path in _files(folder)]
    own = [path for path in known if _OWN.fullmatch(path.relative_to(run).as_posix())]
    return sorted({*own, *_temporary_files(run)}, key=lambda path: (path.name == LOCK, path))


def _temporary_files(run: Path) -> list[Path]:
    found = []
    for folder in (run, *(run / name for name in _INNER)):
        for path in _files(folder):
            name = _TEMPORARY.fullmatch(path.name)
            final = name and (folder / name["name"]).relative_to(run).as_posix()
            if final and (final == RECORD or _OWN.fullmatch(final)):
                found.append(path)
    return found


def _files(folder: Path) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _not_kept(run: Path, keep: str) -> list[Path]:
    return [run / CHECKPOINT] * (keep != "all") + [run / BEST_WEIGHTS] * (keep == "none")
