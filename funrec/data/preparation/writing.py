"""Encoded rows, batch by batch, to files."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from funrec.data.arrays import SplitArrays

_ARRAYS = ("ids", "numeric", "labels", "rows", "masks", "weights", "observed", "groups", "items", "oracle")


class ArrayWriter:
    """Writes an `.npy` file row by row.

    Plain writes, not a memory map: a full disk is then an error that can be told, not a killed process.
    """

    def __init__(self, path: Path, first: NDArray[Any]) -> None:
        self._dtype, self._shape = first.dtype, first.shape[1:]
        self._rows = 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()
        self.append(first)

    def _write_header(self) -> None:
        """Write the header, in which NumPy leaves room for more rows than any array has."""
        descr, shape = np.lib.format.dtype_to_descr(self._dtype), (self._rows, *self._shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": shape})

    def append(self, rows: NDArray[Any]) -> None:
        self._rows += len(rows)
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)

    def close(self) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()


class SplitWriter:
    """Writes one split's arrays, and hashes what makes its rows theirs."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self._folder, self._stack = folder, stack
        self._arrays: dict[str, ArrayWriter] = {}
        self._ends: dict[str, int] = {}
        self._hash = hashlib.sha256()

    def append(self, batch: SplitArrays, group_hashes: NDArray[np.uint64] | None) -> None:
        """Write one batch, whose optional arrays are those of every other."""
        for name in _ARRAYS:
            if (part := getattr(batch, name)) is not None:
                self._append(name, part)
        for place, (name, lists) in enumerate(batch.sequences.items()):
            end = self._ends.get(name)
            self._append(f"sequence_{place}_offsets", lists.offsets if end is None else end + lists.offsets[1:])
            self._append(f"sequence_{place}_values", lists.values)
            self._ends[name] = (end or 0) + len(lists.values)
        # One hash of all columns side by side, so that batch borders leave no trace.
        columns = [batch.rows.astype("<i8"), batch.labels.astype("<f4")]
        columns += [] if batch.masks is None else [batch.masks]
        columns += [] if group_hashes is None else [group_hashes.astype("<u8")]
        flat = [np.ascontiguousarray(column).view(np.uint8).reshape(len(batch), -1) for column in columns]
        self._hash.update(np.concatenate(flat, axis=1).data)

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        if name in self._arrays:
            self._arrays[name].append(rows)
        else:
            self._arrays[name] = ArrayWriter(self._folder / f"{name}.npy", rows)
            self._stack.callback(self._arrays[name].close)

    @property
    def row_fingerprint(self) -> str:
        return self._hash.hexdigest()
