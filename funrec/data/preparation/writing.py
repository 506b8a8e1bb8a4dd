"""Encoded rows, batch by batch, to files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funrec.data.features.encoding import EncodedFeatures, Encoder
from funrec.data.preparation.labels import LabelBatch


class ArrayWriter:
    """Writes an `.npy` file of known shape row by row.

    Plain writes, not a memory map: a full disk is then an error that can be told, not a killed process.

    Args:
        path: The file.
        dtype: Of the array.
        shape: Of the whole array.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype)
        self._left = int(np.prod(shape))
        self._file = path.open("wb")
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": shape})

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows."""
        rows = np.ascontiguousarray(rows, dtype=self._dtype)
        self._left -= rows.size
        self._file.write(rows.data)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._left:
            raise RuntimeError(f"{self._file.name}: {self._left} values too few were written")


class SplitWriter:
    """Writes one split's arrays, and hashes what makes its rows theirs.

    Args:
        folder: The split's folder, which is made.
        rows: Number of rows to come.
        tasks: Number of tasks.
        encoders: The encoders, in the features' order.
        values: Total number of values by sequence feature.
        has: Which optional arrays there are, of `masks`, `weights`, `groups`, `items`, `oracle`.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        tasks: int,
        encoders: Mapping[str, Encoder],
        values: dict[str, int],
        has: frozenset[str],
    ) -> None:
        folder.mkdir()
        self._has = has
        self._rows = hashlib.sha256()
        self._stack = ExitStack()
        numbers = sum(encoder.is_number for encoder in encoders.values())
        sequences = [name for name, encoder in encoders.items() if encoder.is_sequence]
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "ids": ("<i4", (rows, len(encoders) - numbers - len(sequences))),
            "numeric": ("<f4", (rows, numbers)),
            "labels": ("<f4", (rows, tasks)),
            "rows": ("<i8", (rows,)),
            "masks": ("|b1", (rows, tasks)),
            "weights": ("<f4", (rows, tasks)),
            "groups": ("<i4", (rows,)),
            "items": ("<i4", (rows,)),
            "oracle": ("<f4", (rows, tasks)),
        }
        optional = {"masks", "weights", "groups", "items", "oracle"}
        self._arrays = {
            name: self._stack.enter_context(ArrayWriter(folder / f"{name}.npy", dtype, shape))
            for name, (dtype, shape) in shapes.items()
            if name not in optional or name in has
        }
        self._ends = dict.fromkeys(sequences, 0)
        for place, name in enumerate(sequences):
            for part, dtype, length in (("offsets", "<i8", rows + 1), ("values", "<i4", values[name])):
                path = folder / f"sequence_{place}_{part}.npy"
                self._arrays[f"{name}/{part}"] = self._stack.enter_context(ArrayWriter(path, dtype, (length,)))
            self._arrays[f"{name}/offsets"].append(np.zeros(1, dtype=np.int64))

    def append(
        self,
        features: EncodedFeatures,
        labels: LabelBatch,
        rows: NDArray[np.int64],
        groups: NDArray[np.int32] | None,
        group_hashes: NDArray[np.uint64] | None,
        items: NDArray[np.int32] | None,
        oracle: NDArray[np.float32] | None,
    ) -> None:
        """Write one batch."""
        parts: dict[str, NDArray[Any] | None] = {
            "ids": features.ids,
            "numeric": features.numeric,
            "labels": labels.labels,
            "rows": rows,
            "masks": labels.masks,
            "weights": labels.weights,
            "groups": groups,
            "items": items,
            "oracle": oracle,
        }
        for name, part in parts.items():
            if name in self._arrays and part is not None:
                self._arrays[name].append(part)
        for name, (lengths, values) in features.sequences.items():
            self._arrays[f"{name}/offsets"].append(self._ends[name] + np.cumsum(lengths))
            self._arrays[f"{name}/values"].append(values)
            self._ends[name] += len(values)
        self._hash(rows, labels, group_hashes)

    def _hash(self, rows: NDArray[np.int64], labels: LabelBatch, group_hashes: NDArray[np.uint64] | None) -> None:
        """Mix one batch into the hash of rows: one number per row, so that batch borders leave no trace."""
        columns = [rows.astype("<i8"), labels.labels.astype("<f4")]
        if labels.masks is not None:
            columns.append(labels.masks)
        if group_hashes is not None:
            columns.append(group_hashes.astype("<u8"))
        flat = [np.ascontiguousarray(column).view(np.uint8).reshape(len(rows), -1) for column in columns]
        self._rows.update(np.concatenate(flat, axis=1).data)

    @property
    def row_fingerprint(self) -> str:
        return self._rows.hexdigest()

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
