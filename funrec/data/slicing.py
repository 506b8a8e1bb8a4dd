"""Parts of an evaluation split: users and items by how often training saw them, and the values of any raw column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.arrays import PreparedData, SplitArrays
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import reading_errors
from funrec.data.preparation.splitting import SPLIT_NAMES
from funrec.data.preparation.staging import check_columns
from funrec.utils.errors import InputError

#: Head items are this share of the items that training saw, those with the most rows.
HEAD_SHARE = 0.2
#: Values of a column with a slice of their own, those with the most rows; the others share one.
MOST_VALUES = 20
OTHER, MISSING = "(other)", "(missing)"

ROWS_PER_BATCH = 1 << 20


@dataclass(frozen=True)
class Slice:
    """Some rows of a split.

    Attributes:
        name: What the rows were cut by: `user`, `item` or a column.
        value: Which part it is: `cold`, `head`, or the column's value.
        rows: Whether a row belongs to it, `bool (rows,)`.
    """

    name: str
    value: str
    rows: NDArray[np.bool_]


def read_columns(
    dataset: Dataset, data: PreparedData, names: Sequence[str], with_train: bool = False
) -> dict[str, dict[str, pl.Series]]:
    """Read raw columns of the evaluation splits' rows, or of all; a feature's name stands for its column.

    Returns:
        By name and split, a value per row.
    """
    if not names:
        return {}
    columns = {feature.name: feature.column for feature in data.layout.features}
    wanted = {str(name): columns.get(str(name), str(name)) for name in names}
    keys = dict.fromkeys(wanted.values(), "metrics.slices")
    if (known := dataset.available_columns()) is not None:
        check_columns(dataset, keys, known)
    values: dict[str, dict[str, pl.Series]] = {name: {} for name in wanted}
    with TemporaryDirectory() as folder, reading_errors(dataset.source_name):
        for key, frame in dataset.scan(list(keys), Path(folder)).items():
            splits = [name for name in (SPLIT_NAMES if key == "all" else (key,)) if name in data.splits]
            splits = [name for name in splits if with_train or name != "train"]
            if not splits:
                continue
            schema = frame.collect_schema()
            check_columns(dataset, keys, schema.names())
            read = frame.select(list(keys)).collect(engine="streaming")
            for name, column in wanted.items():
                if schema[column].is_nested():
                    raise InputError(
                        f"metrics.slices should name columns with one value per row. {name} holds lists: leave it out."
                    )
                values[name] |= {split: read[column].gather(np.asarray(data.splits[split].rows)) for split in splits}
    return values


def cut(data: PreparedData, split: SplitArrays, columns: Mapping[str, pl.Series]) -> Iterator[Slice]:
    """Yield a split's slices.

    By `user`: `cold` (no row in training) and `known`. By `item`: `cold`, `head` (the fifth of the items with the most
    training rows) and `tail` (the others). Then by column: its most frequent values, and the rest of them together; of
    a numeric feature with many values, tenths.
    """
    train = data.splits["train"]
    if split.groups is not None and train.groups is not None:
        seen = _count(train.groups, split.groups) > 0
        is_known = seen[np.asarray(split.groups)]
        yield Slice("user", "known", is_known)
        yield Slice("user", "cold", ~is_known)
    if split.items is not None and train.items is not None:
        counts = _count(train.items, split.items)
        known = np.flatnonzero(counts)
        by_count = known[np.argsort(-counts[known], kind="stable")]
        place = np.full(counts.size, 2)
        place[by_count] = 1
        place[by_count[: max(1, round(HEAD_SHARE * known.size))]] = 0
        place_of_row = place[np.asarray(split.items)]
        for number, value in enumerate(("head", "tail", "cold")):
            yield Slice("item", value, place_of_row == number)
    numbers = {feature.name for feature in data.layout.features if feature.kind == "numeric"}
    for name, values in columns.items():
        if name in numbers and values.n_unique() > MOST_VALUES:
            yield from _by_tenth(name, values)
        else:
            yield from _by_value(name, values)


def _count(train: NDArray[Any], split: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many training rows every code has."""
    size = int(max(train.max(initial=-1), split.max(initial=-1))) + 1
    counts = np.zeros(size, np.int64)
    for start in range(0, len(train), ROWS_PER_BATCH):
        counts += np.bincount(train[start : start + ROWS_PER_BATCH], minlength=size)
    return counts


def _by_value(name: str, values: pl.Series) -> Iterator[Slice]:
    texts = values.cast(pl.String).fill_null(MISSING).to_numpy()
    distinct, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    for code in frequent:
        yield Slice(name, str(distinct[code]), codes == code)
    if distinct.size > frequent.size:
        yield Slice(name, OTHER, ~np.isin(codes, frequent))


def _by_tenth(name: str, values: pl.Series) -> Iterator[Slice]:
    numbers = values.cast(pl.Float64).to_numpy()
    known = ~np.isnan(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, 11)))
    tenth = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(edges.size - 2, 0))
    for place in range(edges.size - 1):
        yield Slice(name, f"{edges[place]:g} to {edges[place + 1]:g}", known & (tenth == place))
    if not known.all():
        yield Slice(name, MISSING, ~known)
