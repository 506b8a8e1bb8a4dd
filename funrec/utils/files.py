"""Files that appear whole or not at all: strict JSON, Parquet and NumPy archives."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec.utils.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

#: What an archive holds beside its arrays: their names, and notes.
NOTES = "notes.json"
CHUNK = 1 << 24
#: What reading a damaged archive raises, whichever of its bytes is wrong.
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, MemoryError, RecursionError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


class Cancelled(Exception):
    """A file was not wanted any more while it was written."""


class Damaged(InputError):
    """A file's content is not what was written.

    Attributes:
        problem: The error's message without its advice.
    """

    def __init__(self, path: Path, error: object) -> None:
        self.problem = f"{path} is damaged: {one_line(error)}."
        super().__init__(f"{self.problem} Run it again.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is gone.

    Both the file and its folder are synced, so that what is there after a power cut is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or one_line(error)}. Free some space or choose another folder."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
        ValueError: If a number is not finite; `to_plain` makes it None.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def read_json(path: Path) -> Any:
    """Read strict JSON.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If it cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}. Run it again or leave it out.") from error


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame to Parquet."""
    import polars as pl

    with replacing(path) as temporary:
        try:
            frame.write_parquet(temporary)
        except pl.exceptions.PolarsError as error:
            if (cause := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(cause[1]), os.strerror(int(cause[1]))) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a Parquet file, or some of its columns."""
    import polars as pl

    try:
        return pl.read_parquet(path, columns=list(columns) if columns is not None else None)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the run did not get that far. Run it again or leave it out.") from None
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(f"{path} should have the columns {', '.join(columns or ())}: {one_line(error)}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}. Run it again or leave it out.") from error


def write_arrays(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    notes: Mapping[str, Any] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Write arrays, and notes on them, as an `.npz` file: an uncompressed archive with a checksum per array.

    NumPy's own writer copies every array once more, and takes three times as long.

    Args:
        path: The file.
        arrays: By name.
        notes: What JSON has; numbers that are not finite are kept. See `read_notes`.
        is_cancelled: Asked now and then whether the file is still wanted.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
        Cancelled: If it is not wanted any more.
    """
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        table = {"arrays": list(arrays), "notes": notes}
        archive.writestr(NOTES, json.dumps(table, default=lambda value: value.tolist()))
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                data = array.reshape(-1).view(np.uint8).data
                for start in range(0, len(data), CHUNK):
                    if is_cancelled():
                        raise Cancelled
                    member.write(data[start : start + CHUNK])


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` file, all of them and every checksum.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If it cannot be read or is damaged.
    """
    import numpy as np

    arrays = {}
    with _reading(path) as archive:
        members = archive.namelist()
        for member in members:
            if member != NOTES:
                with archive.open(member) as file:
                    arrays[member.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read():  # to the end, where its checksum is looked at
                        raise ValueError(f"{member} is longer than its array")
        # What the archive's directory has lost would not be missed without a list of its own.
        if not members or (NOTES in members and json.loads(archive.read(NOTES))["arrays"] != list(arrays)):
            raise ValueError("some of its arrays are missing")
    return arrays


def read_notes(path: Path) -> dict[str, Any]:
    """Read the notes of an `.npz` file that `write_arrays` wrote, and nothing else of it.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If it cannot be read, is damaged or has no notes.
    """
    with _reading(path) as archive:
        notes = json.loads(archive.read(NOTES))["notes"]
        if not isinstance(notes, dict):
            raise ValueError("it has no notes")
    return notes


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (FileNotFoundError, NotADirectoryError):
        raise
    except _DAMAGE as error:
        raise Damaged(path, error) from error


def to_plain(value: Any) -> Any:
    """Turn mappings, sequences, NumPy values, paths and times into what JSON has; NaN and infinity into None.

    Raises:
        TypeError: If a value has no JSON form.
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    tolist: Callable[[], Any] | None = getattr(value, "tolist", None)
    if tolist is None:
        raise TypeError(f"A value should have a JSON form. Received: {type(value).__name__}.")
    return to_plain(tolist())


def flatten(node: Mapping[str, Any], inner: bool = False, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a configuration by dotted key; an empty mapping is a value, `inner` ones if asked for."""
    for name, child in node.items():
        is_inner = isinstance(child, Mapping) and bool(child)
        if inner or not is_inner:
            yield f"{prefix}{name}", child
        if is_inner:
            yield from flatten(child, inner, f"{prefix}{name}.")


def one_line(error: object) -> str:
    """Return the first line of a message, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def explain(error: BaseException) -> str:
    """Return why something failed: what a user can mend in its own words, anything else with its kind."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {one_line(error)}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
