"""Raw files: finding them, reading them lazily, and saying what is wrong with them."""

from __future__ import annotations

import errno
import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from funrec.data.datasets.text_files import COMPRESSIONS, SEPARATORS, check_text, separator_of
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import one_line

PARQUET = (".parquet", ".pq")
#: What messages call the kinds of files that can be read.
KINDS = f"{', '.join((*SEPARATORS, *PARQUET))}, compressed as .csv{', .csv'.join(COMPRESSIONS)} or not"
ROWS_TO_INFER_FROM = 100_000
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL = re.compile("No space left|quota exceeded|File too large")
_UNPARSED = re.compile(r"could not parse `(?P<value>.*?)` as (?:dtype )?`?(?P<dtype>\w+)`? at column '(?P<column>.*?)'")


@contextmanager
def reading_errors(what: Callable[[], str]) -> Iterator[None]:
    """Turn what Polars and the disk say about unreadable rows into one line for the user."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{what()} should hold rows. It is empty.") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        if getattr(error, "errno", None) in DISK_FULL or _DISK_FULL.search(str(error)):
            raise InputError("The disk is full: free some space, or set FUNREC_CACHE to another disk.") from error
        if isinstance(error, OSError):
            raise InputError(f"{what()} should be readable: {one_line(error)}.") from error
        raise InputError(_explain(what(), error)) from error


def _explain(what: str, error: Exception) -> str:
    found = _UNPARSED.search(str(error))
    if found is None:
        return f"{what} should be readable as it stands: {one_line(error)}. Is it whole, and what its name says it is?"
    kind = "whole numbers" if found["dtype"].startswith(("i", "u")) else "numbers"
    return (
        f"{what}: column {found['column']} should hold {kind}, as its first {ROWS_TO_INFER_FROM:,} rows do. "
        f"Received: {found['value']!r}. Mend the file, or read the column as text, "
        f"'dataset.dtypes={{{found['column']}: text}}'."
    )


def file_kind(path: Path) -> str | None:
    """Return a file's suffix without the compression's, where it is one that can be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        return suffixes[-2] if len(suffixes) > 1 and suffixes[-2] in SEPARATORS else None
    return suffixes[-1] if suffixes and suffixes[-1] in (*SEPARATORS, *PARQUET) else None


def find_files(key: str, path: str, root: str | None, hint: str = "", any_kind: bool = False) -> list[Path]:
    """Return the files that a path, a folder or a glob, in `root` first, names, sorted by name.

    `key` and `hint` (where to get the files) are for messages; with `any_kind` a file may have any suffix.
    """
    given = Path(path).expanduser()
    places = [given] if root is None or given.is_absolute() else [Path(root).expanduser() / given, given]
    for place in places:
        if place.is_file():
            return [place if any_kind else _readable(key, place)]
        if place.is_dir():
            inside = sorted(file for file in place.iterdir() if file.is_file() and file_kind(file) is not None)
            if inside:
                return inside
            raise InputError(f"{key}: the folder {place} should hold csv, tsv or parquet files. It holds none.")
        if matches := sorted(glob.glob(str(place), recursive=True)):
            found = [Path(match) for match in matches if Path(match).is_file()]
            return found if any_kind else [_readable(key, file) for file in found]
    place = places[0]
    beside = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
    near = did_you_mean(place.name, beside) if beside else f" There is no folder {place.parent}."
    raise InputError(f"{key}: no such file: {place}.{near}{hint}")


def _readable(key: str, path: Path) -> Path:
    if file_kind(path) is None:
        raise InputError(f"{key} should name files of kind {KINDS}. Received: {path}.")
    return path


def scan_files(
    files: Sequence[Path],
    separator: str | None = None,
    dtypes: Mapping[str, Any] | None = None,
    null_values: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> pl.LazyFrame:
    """Return the rows of files of one kind, one after another, without reading them.

    A text file's separator, if not given, is that of its suffix; dtypes that are not given come from its first rows.
    `columns` names the columns of text files without a header line.
    """
    kinds = {file_kind(file) in PARQUET for file in files}
    if len(kinds) > 1:
        raise InputError(f"{files[0].parent} should hold files of one kind. It holds text and Parquet.")
    if kinds.pop():
        return pl.scan_parquet(list(files), glob=False)
    separator = separator or separator_of(files[0])
    for file in files:
        check_text(file, separator, columns)
    if not columns and not any(_has_rows(file) for file in files):
        raise InputError(f"{files[0]} should hold rows. It holds a header alone.")
    known = list(columns)
    if not columns:
        known = pl.scan_csv(files[0], separator=separator, infer_schema=False, glob=False).collect_schema().names()
    return pl.scan_csv(
        list(files),
        separator=separator,
        has_header=not columns,
        new_columns=list(columns) or None,
        schema_overrides={column: dtype for column, dtype in (dtypes or {}).items() if column in known},
        null_values=list(null_values) or None,
        infer_schema_length=ROWS_TO_INFER_FROM,
        glob=False,
    )


def _has_rows(file: Path) -> bool:
    if file.suffix.lower() in COMPRESSIONS:
        return True
    with file.open("rb") as stream:
        stream.readline()
        return bool(stream.read(1 << 12).strip())


def check_unique(table: pl.LazyFrame, key: str, name: str) -> None:
    """Refuse a table that would multiply the log's rows."""
    found = table.select(repeated=pl.len() - pl.col(key).n_unique()).collect(engine="streaming")["repeated"][0]
    if found:
        raise InputError(f"{name} should hold each {key} once. {found:,} rows repeat one: copy or download it again.")
