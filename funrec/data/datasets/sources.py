"""Where the rows of one table come from: files here, files behind a URI, and frames in memory."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl

from funrec.data.datasets.files import find_files, reading_errors, scan_files
from funrec.data.datasets.remote import Remote, is_remote
from funrec.data.datasets.text_files import diagnose_text
from funrec.utils.errors import InputError
from funrec.utils.files import one_line

FRAME = "frame:"
_SPLITS = {"validation": "valid", "val": "valid", "dev": "valid"}
_frames: dict[str, pl.DataFrame] = {}


class Source(ABC):
    """The rows of one table, and what identifies their content.

    Another kind of table, such as one in a database, is a subclass and a YAML that names it:
    `dataset.source: {_target_: mypackage.Table, query: ...}`.
    """

    @property
    def parts(self) -> list[str]:
        """What the rows are in, such as the files' names."""
        return [f"the rows of {type(self).__name__}"]

    @property
    def paths(self) -> Sequence[Path]:
        """The files of this machine that the rows are in, if they are in any."""
        return ()

    @property
    def name(self) -> str:
        """What messages call the rows."""
        return self.parts[0] + (f" and {len(self.parts) - 1} more" if len(self.parts) > 1 else "")

    @abstractmethod
    def identity(self) -> list[Any]:
        """Return plain values that change whenever the rows do, such as a version or a count and the latest time.

        Prepared data is found again by them, and they are compared before and after the rows are read.
        """

    @abstractmethod
    def scan(self) -> pl.LazyFrame:
        """Return the rows, in an order that is the same from one call to the next."""

    def diagnose(self) -> str | None:
        """Return what is wrong with the rows as they are stored, if anything; asked once reading has failed."""
        return None


class Files(Source):
    """CSV, TSV (either also compressed) or Parquet files of one kind, one after another."""

    def __init__(self, paths: Sequence[Path], **reading: Any) -> None:
        self._paths, self._reading = paths, reading

    @property
    def paths(self) -> Sequence[Path]:
        return self._paths

    @property
    def parts(self) -> list[str]:
        return [path.name for path in self.paths]

    def identity(self) -> list[Any]:
        return [_stat(path) for path in self.paths]

    def scan(self) -> pl.LazyFrame:
        with reading_errors(lambda: str(self.paths[0])):
            return scan_files(self.paths, **self._reading)

    def diagnose(self) -> str | None:
        separator = self._reading.get("separator")
        return next((found for path in self.paths if (found := diagnose_text(path, separator))), None)


class RemoteFiles(Files):
    """Such files behind a URI, of which there is a copy in the cache while their content is the same."""

    def __init__(self, remote: Remote, **reading: Any) -> None:
        super().__init__((), **reading)
        self._remote = remote

    @cached_property
    def paths(self) -> Sequence[Path]:
        return self._remote.fetch()

    @property
    def parts(self) -> list[str]:
        return [self._remote.uri]

    def identity(self) -> list[Any]:
        return self._remote.identity()


@dataclass
class Frame(Source):
    """A frame that this process holds, by the hash of its content."""

    key: str
    uri: str

    @property
    def parts(self) -> list[str]:
        return ["the frame"]

    def identity(self) -> list[Any]:
        return [self.uri]

    def scan(self) -> pl.LazyFrame:
        if self.uri not in _frames:
            raise InputError(
                f"{self.key} should be a frame that was handed over with data=. {self.uri} was one of another process: "
                "hand it over again."
            )
        return _frames[self.uri].lazy()


def open_source(
    key: str,
    path: str,
    root: str | None = None,
    hint: str = "",
    storage_options: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Source:
    """Return the source that a path, a folder, a glob or a URI names; `reading` is passed on to `scan_files`.

    Raises:
        InputError: If there is no such file, or it cannot be reached.
    """
    if path.startswith(FRAME):
        return Frame(key, path)
    if is_remote(path):
        return RemoteFiles(Remote(key, path, storage_options or {}), **reading)
    return Files(find_files(key, path, root, hint, any_kind=bool(reading.get("columns"))), **reading)


@contextmanager
def handed_over(data: Any) -> Iterator[list[str]]:
    """Make frames readable as sources, and yield the overrides that name them.

    Args:
        data: A frame of any library, to be divided by `dataset.split`; or frames by split, `train`, `valid`,
            `test`, `calibrate`; or None.
    """
    if data is None:
        yield []
        return
    is_by_split = isinstance(data, Mapping) and not hasattr(data, "to_polars")
    parts = {_SPLITS.get(name, name): part for name, part in data.items()} if is_by_split else {"path": data}
    for name in parts:
        if name not in ("path", "train", "valid", "test", "calibrate"):
            raise InputError(
                f"data should be a frame, or frames by train, valid, test and calibrate. Received: {name}."
            )
    added, overrides = [], []
    for name, part in parts.items():
        frame = to_polars(part)
        if objects := [column for column, dtype in frame.schema.items() if dtype == pl.Object]:
            raise InputError(
                f"data: column {objects[0]} should hold numbers, text, dates or lists of them. Received: other Python "
                "objects. Convert it or leave it out."
            )
        uri = f"{FRAME}{_digest(frame)}"
        if uri not in _frames:
            _frames[uri] = frame
            added.append(uri)
        overrides.append(f"dataset.{name}='{uri}'")
    try:
        yield overrides
    finally:
        for uri in added:
            del _frames[uri]


def to_polars(frame: Any) -> pl.DataFrame:
    """Return a table as a Polars frame: of pandas, Polars, Hugging Face, Arrow or whatever else exports Arrow.

    Raises:
        InputError: If it is no table, or two of its columns have one name.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    with reading_errors(lambda: "data"):
        if isinstance(frame, pl.LazyFrame):
            return frame.collect(engine="streaming")
        if hasattr(frame, "to_polars"):  # a Hugging Face Dataset, with its selected rows
            return frame.to_polars()
        if type(frame).__module__.partition(".")[0] == "pandas":
            return _from_pandas(frame)
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
    raise InputError(f"data should be a table (pandas, Polars, Arrow, Hugging Face). Received: {type(frame).__name__}.")


def _from_pandas(frame: Any) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {}
    for place, name in enumerate(frame.columns):
        if str(name) in columns:
            raise InputError(f"data: column {name} stands twice. Rename one of them.")
        values = frame.iloc[:, place]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufb":
            columns[str(name)] = pl.Series(values.to_numpy())
        else:
            plain = [None if is_na else value for value, is_na in zip(values.tolist(), values.isna(), strict=True)]
            columns[str(name)] = pl.Series(plain, strict=False)
    return pl.DataFrame(columns)


class _Hashing(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, content: Any) -> int:
        self.hash.update(content)
        return len(content)


def _digest(frame: pl.DataFrame) -> str:
    file = _Hashing()
    frame.rechunk().write_ipc(cast("IO[bytes]", file), compression="uncompressed")
    return file.hash.hexdigest()[:32]


def _stat(path: Path) -> list[Any]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path} should be a file that can be read: {one_line(error)}.") from error
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
