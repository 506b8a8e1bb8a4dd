"""What may go from a run folder: what a killed process left, and what a finished run does not keep."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from funrec.runs.folder import CHECKPOINT, FAILURE, LOCK, RECORD, find_runs, is_run, locked, read_failure, status
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

BEST_WEIGHTS = "model/weights.npz"
#: All that a run writes, its lock last. A folder that holds anything else is somebody's, and stays.
OWN = (".hydra", "funrec.log", "history.parquet", "predictions.parquet", "model", CHECKPOINT, FAILURE, LOCK)


def leftovers(path: str | Path) -> list[Path]:
    """Return what may go from the runs that `path` names, for `clean`.

    All of a run that was interrupted or failed, as one folder unless it holds what no run wrote. Of a run that finished
    or was pruned, what `trainer.keep` does not keep and files that a killed process left half written. Nothing of a run
    that is running.

    Raises:
        InputError: If there is no such path or no run in it.
    """
    return [leftover for run in find_runs(path) if status(run).state != "running" for leftover in _leftovers(run)]


def clean(found: Iterable[Path]) -> list[Path]:
    """Remove `leftovers`, and return those that are gone. A run that was resumed meanwhile keeps all it has.

    Raises:
        InputError: If a file or folder cannot be removed.
    """
    by_run: dict[Path, list[Path]] = {}
    for leftover in found:
        run = next((folder for folder in (leftover, *leftover.parents) if is_run(folder)), None)
        if run is not None:
            by_run.setdefault(run, []).append(leftover)
    return [gone for run, paths in by_run.items() for gone in _clean(run, paths)]


def _clean(run: Path, found: Sequence[Path]) -> Iterator[Path]:
    try:
        with locked(run):
            may_go = _leftovers(run)
            for leftover in found:
                if leftover in may_go:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                    yield leftover
    except BlockingIOError:
        return
    except OSError as error:
        raise InputError(f"{run} cannot be cleaned: {error.strerror or error}. Remove it by hand.") from error


def drop_weights(run: str | Path, keep: str) -> None:
    """Remove what a finished run does not keep: see `trainer.keep`."""
    for path in _not_kept(Path(run), keep):
        with suppress(FileNotFoundError):
            path.unlink()


def drop_temporary_files(run: str | Path) -> None:
    """Remove what a process was writing when it was killed. Only for who holds the run's lock."""
    for path in _temporary_files(Path(run)):
        with suppress(FileNotFoundError):
            path.unlink()


def _leftovers(run: Path) -> list[Path]:
    """Return what may go from a run that is not running."""
    if (run / RECORD).is_file():
        try:
            keep = read_json(run / RECORD)["config"]["trainer"]["keep"]
        except (OSError, InputError, KeyError, TypeError):  # damaged, or older than the setting
            keep = "best"
        return [path for path in (*_not_kept(run, keep), *_temporary_files(run)) if path.is_file()]
    if (run / FAILURE).is_file() and read_failure(run)[0] == "pruned":
        return [path for path in (*_not_kept(run, "none"), *_temporary_files(run)) if path.is_file()]
    own = [run / name for name in OWN if (run / name).exists()]
    temporary = _temporary_files(run)
    is_all = {path.name for path in run.iterdir()} <= {path.name for path in (*own, *temporary)}
    return [run] if is_all else [*(path for path in temporary if path.parent == run), *own]


def _not_kept(run: Path, keep: str) -> list[Path]:
    return [run / CHECKPOINT] * (keep != "all") + [run / BEST_WEIGHTS] * (keep == "none")


def _temporary_files(run: Path) -> list[Path]:
    return [path for folder in (run, run / "model", run / ".hydra") for path in sorted(folder.glob(".*.tmp"))]
