"""Any table in CSV, TSV or Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import find_files, reading_errors, scan_files
from funrec.utils.errors import InputError, did_you_mean

DTYPES = {"text": pl.String, "integer": pl.Int64, "number": pl.Float64}


class Tabular(Dataset):
    """Rows of one table that a rule splits, or of a file for each split.

    Files are CSV, TSV (either also `.gz` or `.zst`) or Parquet; a path may be a file, a folder of files, or a glob.

    Args:
        path: All rows, to be divided by `split`; or
        train: the training rows,
        valid: the validation rows, and
        test: the test rows, or none.
        root: Folder that relative paths are looked for in first.
        separator: Between the fields of text files; by their suffix where not given.
        dtypes: `text`, `integer` or `number` by column, where the first rows of a text file mislead.
        null_values: Texts that stand for null.
        leaky: Columns that must not be features, with the reason.
        allow_leaky: Allow them.
        homepage: Where to get the files; said when they are missing.

    The other arguments are those of `Dataset`.

    Raises:
        InputError: If neither `path` nor `train` and `valid` are given, or both are.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, Any],
        tasks: Mapping[str, Any],
        split: Mapping[str, Any],
        path: str | None = None,
        train: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        root: str | None = None,
        separator: str | None = None,
        dtypes: Mapping[str, str] | None = None,
        null_values: Sequence[str] = (),
        leaky: Mapping[str, str] | None = None,
        allow_leaky: bool = False,
        homepage: str | None = None,
        group: str | None = None,
        item: str | None = None,
        time: str | None = None,
        where: str | None = None,
        row_weight: str | None = None,
        max_rows: int | None = None,
        drop: Sequence[str] = (),
        downsample: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            features=features,
            tasks=tasks,
            split=split,
            group=group,
            item=item,
            time=time,
            where=where,
            row_weight=row_weight,
            max_rows=max_rows,
            drop=drop,
            downsample=downsample,
        )
        explicit = {"train": train, "valid": valid, "test": test}
        if path is not None and any(explicit.values()):
            raise InputError("dataset.path and dataset.train should not both be given. Set one of them to null.")
        if path is None and not (train and valid):
            raise InputError("dataset.path, or dataset.train and dataset.valid, should name the table's files.")
        self._paths = {"all": path} if path is not None else {k: v for k, v in explicit.items() if v is not None}
        self._root = root
        self._hint = f" Get it from {homepage}." if homepage else ""
        self.separator = separator
        self.dtypes = dict(dtypes or {})
        for column, dtype in self.dtypes.items():
            if dtype not in DTYPES:
                raise InputError(
                    f"dataset.dtypes.{column} should be one of {', '.join(DTYPES)}. Received: {dtype}."
                    + did_you_mean(dtype, DTYPES)
                )
        self.null_values = [null_values] if isinstance(null_values, str) else list(null_values or ())
        self.leaky = {} if allow_leaky else dict(leaky or {})

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        return {
            name: find_files("dataset.path" if name == "all" else f"dataset.{name}", path, self._root, self._hint)
            for name, path in self._paths.items()
        }

    @cached_property
    def _frames(self) -> dict[str, pl.LazyFrame]:
        frames = {}
        for name, files in self._files.items():
            with reading_errors(lambda files=files: str(files[0])):  # type: ignore[misc]  # bound at once
                dtypes = {column: DTYPES[dtype] for column, dtype in self.dtypes.items()}
                frames[name] = scan_files(files, self.separator, dtypes, self.null_values)
        return frames

    @cached_property
    def _columns(self) -> list[str]:
        name = next(iter(self._frames))
        with reading_errors(lambda: str(self._files[name][0])):
            return self._frames[name].collect_schema().names()

    def sources(self) -> list[Path]:
        return [file for files in self._files.values() for file in files]

    def settings(self) -> dict[str, Any]:
        files = {name: [str(file.resolve()) for file in files] for name, files in self._files.items()}
        return {**super().settings(), "files": files}

    def available_columns(self) -> list[str]:
        return self._columns

    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        return dict(self._frames)
