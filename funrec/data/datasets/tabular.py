"""Any table in CSV, TSV or Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import check_unique, reading_errors
from funrec.data.datasets.sources import Files, Source, open_source
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import Inherited, Name, Names, Text, check


@dataclass(frozen=True)
class JoinedTable:
    """A table whose columns every row gets.

    Attributes:
        path: Its files, as `Tabular.path`.
        column: The rows' column that names a row of the table.
        key: The table's column that `column` is looked for in, unique in it; the same name where not given.
    """

    path: Text
    column: Name
    key: Name | None = None


DTYPES = {"text": pl.String, "integer": pl.Int64, "number": pl.Float64}


class Tabular(Dataset):
    """Rows of one table that a rule splits, or of a file for each split.

    Files are CSV, TSV (either also `.gz` or `.zst`) or Parquet; a path may be a file, a folder of files, a glob, or a
    URI of either (`s3://`, `gs://`, `hf://`, `https://`).

    Args:
        path: All rows, to be divided by `split`; or
        train: the training rows,
        valid: the validation rows, and
        test: the test rows, or none,
        calibrate: those for `calibration`, or none.
        source: What else the rows come from: `_target_`, a `Source`, and its arguments.
        root: Folder that relative paths are looked for in first.
        tables: What is joined to the rows: `{path, column, key}`; see `JoinedTable`.
        columns: Names of the columns of text files that have no header line; such files may have any suffix.
        separator: Between the fields of text files; by their suffix where not given.
        dtypes: `text`, `integer` or `number` by column, where the first rows of a text file mislead.
        null_values: Texts that stand for null.
        storage_options: For the file system behind a URI, such as `{anon: true}`; see fsspec. Credentials belong in
            the environment.
        leaky: Columns that must not be features, with the reason.
        allow_leaky: Allow them.
        homepage: Where to get the files; said when they are missing.

    The other arguments are those of `Dataset`.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, Any],
        tasks: Mapping[str, Any],
        path: str | None = None,
        train: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        calibrate: str | None = None,
        source: Mapping[str, Any] | None = None,
        root: str | None = None,
        tables: Sequence[Mapping[str, Any]] = (),
        columns: Names = (),
        separator: str | None = None,
        dtypes: Mapping[str, Literal["text", "integer", "number"]] | None = None,
        null_values: Sequence[str] = (),
        storage_options: Mapping[str, Any] | None = None,
        leaky: Mapping[str, str] | None = None,
        allow_leaky: bool = False,
        homepage: str | None = None,
        **dataset: Inherited,
    ) -> None:
        explicit = {"train": train, "valid": valid, "test": test, "calibrate": calibrate}
        given = [name for name, value in (("path", path), ("source", source)) if value is not None]
        if len(given) == 2:
            raise InputError("dataset.path and dataset.source should not both be given. Set one of them to null.")
        if given and any(explicit.values()):
            raise InputError(f"dataset.{given[0]} and dataset.train should not both be given. Set one of them to null.")
        if not given and not (train and valid):
            raise InputError("dataset.path, or dataset.train and dataset.valid, should name the table's files.")
        self._paths = {"all": path} if path is not None else {k: v for k, v in explicit.items() if v is not None}
        self._source = source
        self._root = root
        self._storage_options = storage_options
        self._hint = f" Get it from {homepage}." if homepage else ""
        self.tables = [dict(table) for table in tables]
        self._tables = [JoinedTable(**check(JoinedTable, table, "dataset.tables")) for table in tables]
        self.columns = list(columns)
        self.separator = separator
        self.dtypes = dict(dtypes or {})
        self.null_values = [null_values] if isinstance(null_values, str) else list(null_values or ())
        self.leaky = {} if allow_leaky else dict(leaky or {})
        if not features or not tasks:  # a missing file is what to hear of first
            _ = self._sources
        super().__init__(features=features, tasks=tasks, **dataset)

    @cached_property
    def _sources(self) -> dict[str, Source]:
        if self._source is not None:
            return {"all": build(self._source, Source, "dataset.source")}
        return {
            name: self._open("dataset.path" if name == "all" else f"dataset.{name}", path)
            for name, path in self._paths.items()
        }

    @cached_property
    def _earlier(self) -> list[Source]:
        return [self._open("dataset.history.logs", path) for path in self.history.logs]

    @cached_property
    def _joined(self) -> list[tuple[JoinedTable, Source]]:
        return [(table, self._open("dataset.tables", table.path)) for table in self._tables]

    def _open(self, key: str, path: str) -> Source:
        reading = {
            "columns": () if key == "dataset.tables" else self.columns,
            "separator": self.separator,
            "dtypes": {column: DTYPES[dtype] for column, dtype in self.dtypes.items()},
            "null_values": self.null_values,
        }
        return open_source(key, path, self._root, self._hint, self._storage_options, **reading)

    @cached_property
    def _frames(self) -> dict[str, pl.LazyFrame]:
        return {name: self._join(source) for name, source in self._sources.items()}

    def _join(self, source: Source) -> pl.LazyFrame:
        """Return the rows of a source with the columns of the joined tables."""
        rows = source.scan()
        for table, its in self._joined:
            key = table.key or table.column
            with reading_errors(lambda source=its: source.name):  # type: ignore[misc]  # bound at once
                columns = its.scan()
                for name, place, known in ((table.column, source, rows), (key, its, columns)):
                    if name not in (names := known.collect_schema().names()):
                        raise InputError(
                            f"dataset.tables: no such column {name} in {place.name}.{did_you_mean(name, names)}"
                        )
                check_unique(columns, key, its.name)
                rows = rows.join(columns, left_on=table.column, right_on=key, how="left", maintain_order="left")
        return rows

    @cached_property
    def _columns(self) -> list[str]:
        name, frame = next(iter(self._frames.items()))
        with reading_errors(lambda: self._sources[name].name):
            return frame.collect_schema().names()

    def sources(self) -> list[Source]:
        return [*self._sources.values(), *self._earlier, *(source for _, source in self._joined)]

    def scan_earlier(self, columns: Sequence[str]) -> list[pl.LazyFrame]:
        return [self._join(source) for source in self._earlier]

    def settings(self) -> dict[str, Any]:
        files = {
            name: [str(path.resolve()) for path in source.paths] if type(source) is Files else source.parts
            for name, source in self._sources.items()
        }
        return {**super().settings(), "files": files}

    def available_columns(self) -> list[str]:
        return self._columns

    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        return dict(self._frames)
