"""What has to hold after a fault: nothing half written under a final name, nothing finished lost."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from drills.processes import NotSurvived


def check(holds: bool, problem: str) -> None:
    """Say what should have held.

    Raises:
        NotSurvived: If it does not hold.
    """
    if not holds:
        raise NotSurvived(problem)


def check_whole(folder: Path) -> None:
    """Read every file that stands under its final name, to the last byte and checksum.

    Raises:
        NotSurvived: If one cannot be read.
    """
    for path in _files(folder):
        if not _is_temporary(path) and (read := READERS.get(path.suffix)):
            try:
                read(path)
            except Exception as error:
                raise NotSurvived(f"{path} is half written: {type(error).__name__}: {error}") from error


def check_tidy(folder: Path) -> None:
    """Check that nothing half written is left once all has finished.

    Raises:
        NotSurvived: If there is.
    """
    left = [str(path) for path in half_written(folder)]
    check(not left, f"half-written files stayed behind: {', '.join(left)}")


def half_written(folder: Path) -> list[Path]:
    """Return the files that a process was writing when it ended, which stand under names of their own."""
    return [path for path in _files(folder) if _is_temporary(path)]


def checksums(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of a cache, by its name within."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(folder)
        if "verified" not in path.name and path.suffix != ".lock"
    }


class Finished:
    """The results that are there now, and that nothing may touch from here on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found = {path: _identity(path) for path in self._results()}

    def __len__(self) -> int:
        return sum(path.name == "record.json" for path in self._found)

    def check(self) -> None:
        """Check that all of them are there, untouched.

        Raises:
            NotSurvived: If one is not.
        """
        for path, identity in self._found.items():
            check(path.is_file(), f"{path} is gone, and was finished")
            check(_identity(path) == identity, f"{path} was written again, and was finished")

    def _results(self) -> Iterator[Path]:
        for record in self._folder.rglob("record.json"):
            yield record
            yield record.with_name("predictions.parquet")
            yield record.with_name("history.parquet")


def metrics(record: Path) -> dict[str, float]:
    """Return the metrics of a record.

    Raises:
        NotSurvived: If there is none.
    """
    check(record.is_file(), f"{record} is missing")
    found: dict[str, float] = json.loads(record.read_text())["metrics"]
    return found


def _read_arrays(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"{broken} does not fit its checksum")
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            if name.endswith(".json"):
                json.loads(arrays[name])
            else:
                arrays[name]


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text("utf-8")),
    ".npz": _read_arrays,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".parquet": pl.read_parquet,
}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_temporary(path: Path) -> bool:
    return path.suffix == ".tmp" or any(part.startswith(".building-") for part in path.parts)


def _identity(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
