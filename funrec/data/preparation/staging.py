"""One pass over the raw rows, into one flat file per frame with all that preparation reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import reading_errors
from funrec.data.expressions import dtype_of, is_number
from funrec.data.features.encoding import reading
from funrec.data.hashing import uniform
from funrec.data.preparation.histories import WARM, add_histories
from funrec.data.preparation.splitting import MISSING_VALUE, ODD_VALUE, SPLIT_NAMES, split_code, split_column
from funrec.utils.errors import InputError, did_you_mean

ROW, SPLIT, WEIGHT = "row", "split", "weight"
ROWS_PER_BATCH = 1 << 18


@dataclass(frozen=True)
class StagedFrame:
    """The rows of one frame that `Dataset.scan` returned.

    Columns: `row`, `split`, `label/<task>`, `length/<task>`, `delay/<task>`,
    `where/<task>`, `oracle/<task>`, `weight`,
    `feature/<name>`, `group`, `item`, `time`; those that the dataset does not have are absent.

    Attributes:
        path: The Arrow IPC file.
        schema: Its dtypes.
        counts: Rows by split name.
        codes: Split names by the code in column `split`.
        lists: Raw columns that hold lists.
    """

    path: Path
    schema: pl.Schema
    counts: dict[str, int]
    codes: dict[int, str]
    lists: frozenset[str]

    @property
    def rows(self) -> pl.LazyFrame:
        return pl.scan_ipc(self.path)

    def rows_of(self, split: str) -> pl.LazyFrame:
        """Return the rows of one of its splits."""
        code = next(code for code, name in self.codes.items() if name == split)
        return self.rows.filter(pl.col(SPLIT) == code) if len(self.codes) > 1 else self.rows

    def parts(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield the rows in order, a bounded number at a time and split by split."""
        last_row = -1
        for start in range(0, sum(self.counts.values()), ROWS_PER_BATCH):
            batch = self.rows.slice(start, ROWS_PER_BATCH).collect()
            rows = batch[ROW].to_numpy()
            if rows[0] <= last_row or (np.diff(rows) <= 0).any():
                raise RuntimeError(f"rows lost their order after row {last_row}")
            last_row = rows[-1]
            for code, name in self.codes.items():
                part = batch.filter(pl.col(SPLIT) == code) if len(self.codes) > 1 else batch
                if part.height:
                    yield name, part


def stage(dataset: Dataset, folder: Path) -> list[StagedFrame]:
    """Evaluate labels, masks, split and weights once, in row order and without holding the rows in memory."""
    needed = dataset.needed_columns()
    raw = folder / "raw"
    raw.mkdir()
    with reading_errors(dataset.source_name):
        frames = dataset.scan(list(needed), raw)
        for frame in frames.values():
            check_columns(dataset, needed, frame.collect_schema().names())
        if dataset.histories:
            used = {name: _kept(dataset, frame) for name, frame in frames.items()}
            frames = add_histories(dataset, frames, used, folder)
        schemas = {name: frame.collect_schema() for name, frame in frames.items()}
    lists = frozenset(
        column for schema in schemas.values() for column, dtype in schema.items() if isinstance(dtype, pl.List)
    )
    staged = []
    for number, (name, frame) in enumerate(frames.items()):
        path = folder / f"{number}.arrow"
        with reading_errors(dataset.source_name):
            codes = dict(enumerate(SPLIT_NAMES)) if name == "all" else {0: name}
            plan = _plan(dataset, name, frame, schemas[name], lists)
            plan.sink_ipc(path, compression="uncompressed")
            if dataset.max_train_rows is not None and codes[0] == "train":
                path = _sample_training_rows(path, dataset.max_train_rows, dataset.split.seed)
            counts = pl.scan_ipc(path).group_by(SPLIT).agg(pl.len(), pl.col(ROW).first()).collect(engine="streaming")
        rows = dict(zip(counts[SPLIT].to_list(), counts["len"].to_list(), strict=True))
        _check_split(dataset, counts)
        kept = {split: rows.get(code, 0) for code, split in codes.items()}
        staged.append(StagedFrame(path, pl.scan_ipc(path).collect_schema(), kept, codes, lists))
    return staged


def check_columns(dataset: Dataset, needed: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse a configuration that names a column which the rows do not have.

    Args:
        dataset: Whose rows they are.
        needed: By column, the config key that asks for it.
        known: The columns of the rows.
    """
    for column, key in needed.items():
        if column not in known:
            named = "" if key.endswith(f".{column}") else f" {column}"
            raise InputError(f"{key}: no such column{named} in {dataset.source_name()}.{did_you_mean(column, known)}")


def _plan(dataset: Dataset, name: str, frame: pl.LazyFrame, schema: pl.Schema, lists: frozenset[str]) -> pl.LazyFrame:
    """Return the lazy query that yields one frame's staged rows."""
    row = _unused("row", schema)
    frame = _kept(dataset, frame.with_row_index(row))
    columns = [pl.col(row).cast(pl.Int64).alias(ROW)]
    code = split_code(dataset, frame, schema, row) if name == "all" else pl.lit(0, pl.Int8)
    columns.append(code.alias(SPLIT))
    for task in dataset.tasks:
        key = f"dataset.tasks.{task.name}"
        length = None if task.most_lengths is None else task.length
        for column, suffix, text in (
            ("label", "label", task.label),
            ("length", "length", length),
            ("delay", "observed_after", task.observed_after),
        ):
            if text is not None:
                number = _number(dataset, f"{key}.{suffix}", text, schema)
                dtype = pl.Float64 if column == "delay" else pl.Float32
                columns.append(number.cast(dtype).alias(f"{column}/{task.name}"))
        if task.where is not None:
            condition = _condition(dataset, f"{key}.where", task.where, schema)
            columns.append(condition.alias(f"where/{task.name}"))
        if task.name in dataset.oracle:
            columns.append(pl.col(dataset.oracle[task.name]).cast(pl.Float32).alias(f"oracle/{task.name}"))
    if dataset.row_weight is not None:
        weight = _number(dataset, "dataset.row_weight", dataset.row_weight, schema)
        columns.append(weight.cast(pl.Float64).alias(WEIGHT))
    for feature in dataset.features:
        value = reading(feature, schema, is_list=feature.column in lists)
        columns.append(value.alias(f"feature/{feature.name}"))
    for role in ("group", "item", "time"):
        column = getattr(dataset, role)
        if column is not None:
            columns.append(pl.col(column).alias(role))
    if WARM in schema:
        columns.append(pl.col(WARM))
    plan = frame.select(columns)
    if WARM in schema:
        plan = plan.filter((pl.col(SPLIT) != 0) | pl.col(WARM)).drop(WARM)
    if dataset.downsample is not None and name in ("all", "train"):
        plan = plan.filter(_is_kept(dataset, plan.collect_schema()))
    return plan


def _kept(dataset: Dataset, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows that are used at all."""
    if dataset.where is not None:
        frame = frame.filter(_condition(dataset, "dataset.where", dataset.where, frame.collect_schema()))
    return frame if dataset.max_rows is None else frame.head(dataset.max_rows)


def _number(dataset: Dataset, key: str, text: str, schema: pl.Schema) -> pl.Expr:
    """Return a label, length or weight, which is a number or true or false."""
    expression = dataset.parse(key, text).expr
    dtype = dtype_of(key, expression, schema)
    if not is_number(dtype):
        raise InputError(
            f"{key} should be a number or true/false. Received: a column of {dtype}. "
            "Write a condition, such as \"income = '>50K'\"."
        )
    return expression


def _condition(dataset: Dataset, key: str, text: str, schema: pl.Schema) -> pl.Expr:
    """Return a condition as a Boolean that is never null: what is unknown does not hold."""
    expression = dataset.parse(key, text).expr
    dtype = dtype_of(key, expression, schema)
    if not is_number(dtype):
        raise InputError(f'{key} should be a condition, such as "tab IN (0,1)". Received: {text}, which is {dtype}.')
    return expression.cast(pl.Boolean).fill_null(False)


def _is_kept(dataset: Dataset, schema: pl.Schema) -> pl.Expr:
    """Return which rows downsampling keeps: a function of seed and row number, so the same in every run."""
    sampling = dataset.downsample
    assert sampling is not None
    negative = (pl.col(SPLIT) == 0) & (pl.col(f"label/{sampling.task}") == 0)
    if f"where/{sampling.task}" in schema:
        negative &= pl.col(f"where/{sampling.task}")
    return negative.fill_null(False).not_() | (_draw(dataset.split.seed, "downsample") < sampling.rate)


def _sample_training_rows(path: Path, most: int, seed: int) -> Path:
    """Keep `most` training rows, those of the smallest draws, and return the file that has them."""
    rows, draw = pl.scan_ipc(path), _draw(seed, "max_train_rows")
    draws = rows.filter(pl.col(SPLIT) == 0).select(draw=draw)
    smallest = draws.bottom_k(most + 1, by="draw").collect(engine="streaming")["draw"]
    if len(smallest) <= most:
        return path
    sampled = path.with_suffix(".sampled.arrow")
    rows.filter((pl.col(SPLIT) != 0) | (draw < smallest.max())).sink_ipc(sampled, compression="uncompressed")
    return sampled


def _draw(seed: int, site: str) -> pl.Expr:
    """Return each row's draw."""

    def draw(rows: pl.Series) -> pl.Series:
        return pl.Series(uniform(rows.cast(pl.UInt64).to_numpy(), seed, site))

    return pl.col(ROW).map_batches(draw, return_dtype=pl.Float64, is_elementwise=True)


def _unused(name: str, schema: pl.Schema) -> str:
    while name in schema:
        name = f"_{name}"
    return name


def _check_split(dataset: Dataset, counts: pl.DataFrame) -> None:
    for code, what in ((MISSING_VALUE, "is null"), (ODD_VALUE, "fits no split")):
        odd = counts.filter(pl.col(SPLIT) == code)
        if odd.height:
            should = {
                "time": "a number or a date that begins with the year",
                "column": "train, valid or test",
            }.get(dataset.split.by, "a value")
            raise InputError(
                f"dataset.split: column {split_column(dataset)} should hold {should} in every row. In "
                f"{odd['len'][0]:,} rows it {what}, the first of which is row {odd[ROW][0]:,} (from 0). "
                "Mend the file, or leave such rows out with dataset.where."
            )
