"""Raw values to embedding rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.hashing import KEY_DTYPES, as_keys, codes_of_text, stable_hash

_SPAN_OF_TABLE = 4_000_000
_KEYS_TO_HASH = 200_000


class Vocabulary:
    """The embedding row of every value that the training split taught, or, hashed, of every value there is.

    Row 0 is out-of-vocabulary. Row `i + 1` belongs to `keys[i]`, which may be null: a null is a value of its own.

    Args:
        keys: Values in row order, of dtype `key`; none when hashed.
        counts: How often each was seen in the training split.
        key: Name of the dtype that values are looked up as; see `KEY_DTYPES`.
        hash_buckets: Number of rows that values are hashed into; None for a vocabulary of counted values.
    """

    def __init__(
        self,
        keys: pl.Series | None,
        counts: pl.Series | None,
        key: str,
        hash_buckets: int | None = None,
    ) -> None:
        self.key = key
        self.hash_buckets = hash_buckets
        self.keys = pl.Series("key", [], dtype=KEY_DTYPES[key]) if keys is None else keys.alias("key")
        self.counts = pl.Series("count", [], dtype=pl.Int64) if counts is None else counts.cast(pl.Int64).alias("count")

    def __len__(self) -> int:
        """Number of embedding rows, row 0 included."""
        return 1 + (len(self.keys) if self.hash_buckets is None else self.hash_buckets)

    def extended(self, newer: Vocabulary, most: int | None = None) -> Vocabulary:
        """Return it with the values that only `newer` has after its own, which keep their rows; counts add up.

        New values are taken in, the most frequent first, until there are `most`.
        """
        if self.hash_buckets is not None:
            return self
        rows = self.encode(newer.keys)
        counts = self.counts.to_numpy().copy()
        counts[rows[rows > 0] - 1] += newer.counts.to_numpy()[rows > 0]
        new = rows == 0
        keys = pl.concat([self.keys, newer.keys.filter(pl.Series(new))])
        both = pl.concat([pl.Series("count", counts), newer.counts.filter(pl.Series(new))])
        kept = len(keys) if most is None else max(most, len(self.keys))
        return Vocabulary(keys.head(kept), both.head(kept), self.key)

    def encode(self, values: pl.Series) -> NDArray[np.int32]:
        """Return the embedding row of every value, `(rows,)`; 0 for one that is not in the vocabulary."""
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            return self._rows_of_codes(values)
        if self.hash_buckets is not None:
            return (stable_hash(values, self.key) % np.uint64(self.hash_buckets)).astype(np.int32) + 1
        keys, was_null = values, values.is_null()
        if values.dtype != KEY_DTYPES[self.key] or self.key == "Float64":
            keys = values.to_frame("value").select(as_keys(pl.col("value"), values.dtype, self.key)).to_series()
            if values.dtype.is_float():
                was_null |= values.is_nan().fill_null(True)
        rows = self._rows_of_text(keys) if self.key == "String" else self._rows_of_numbers(keys)
        if keys.null_count():
            rows = np.where(keys.is_null().to_numpy(), np.where(was_null.to_numpy(), self._null_row, 0), rows)
        return rows.astype(np.int32, copy=False)

    def _rows_of_codes(self, values: pl.Series) -> NDArray[np.int32]:
        """Look up each distinct value once; Polars already numbers those of such a column."""
        codes = values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        distinct = values.unique()
        row_of_code = np.zeros(int(codes.max(initial=0)) + 2, dtype=np.int32)
        row_of_code[distinct.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()] = self.encode(
            distinct.cast(pl.String)
        )
        return row_of_code[codes]

    def _rows_of_text(self, keys: pl.Series) -> NDArray[np.int32]:
        return self._row_of_text_code[codes_of_text(keys, self._enum)]

    def _rows_of_numbers(self, keys: pl.Series) -> NDArray[np.int32]:
        known = self._sorted_numbers
        if not len(known):
            return np.zeros(len(keys), dtype=np.int32)
        if self._row_of_value is not None:
            values = keys.fill_null(0).to_numpy()
            inside = (values >= known[0]) & (values <= known[-1])
            return np.where(inside, self._row_of_value[np.where(inside, values - known[0], 0)], 0)
        if len(known) <= _KEYS_TO_HASH:
            found = keys.replace_strict(pl.Series(known), pl.Series(self._row_of_sorted), default=0)
            return found.fill_null(0).to_numpy()
        values = keys.fill_null(0).to_numpy()
        place = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[place] == values, self._row_of_sorted[place], 0)

    @cached_property
    def _null_row(self) -> int:
        place = self.keys.is_null().arg_max()
        return 0 if place is None or self.keys[place] is not None else place + 1

    @cached_property
    def _enum(self) -> pl.Enum:
        return pl.Enum(self.keys.drop_nulls())

    @cached_property
    def _row_of_text_code(self) -> NDArray[np.int32]:
        """Embedding row of each text code; the last entry, reached by -1, is that of an unknown text."""
        rows = np.flatnonzero(self.keys.is_not_null().to_numpy()) + 1
        return np.append(rows, 0).astype(np.int32)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        present = np.flatnonzero(self.keys.is_not_null().to_numpy())
        return present[np.argsort(self.keys.gather(present).to_numpy(), kind="stable")]

    @cached_property
    def _sorted_numbers(self) -> NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64]:
        return self.keys.gather(self._order).to_numpy()

    @cached_property
    def _row_of_sorted(self) -> NDArray[np.int32]:
        return (self._order + 1).astype(np.int32)

    @cached_property
    def _row_of_value(self) -> NDArray[np.int32] | None:
        """A table by value, where the values are whole numbers that lie close enough together."""
        if self.key == "Float64":
            return None
        span = int(self._sorted_numbers[-1]) - int(self._sorted_numbers[0]) + 1
        if span > max(_SPAN_OF_TABLE, 4 * len(self._sorted_numbers)):
            return None
        table = np.zeros(span, dtype=np.int32)
        table[self._sorted_numbers - self._sorted_numbers[0]] = self._row_of_sorted
        return table

    def save(self, path: Path) -> None:
        """Write keys and counts to a Parquet file."""
        pl.DataFrame([self.keys, self.counts]).write_parquet(path)

    @classmethod
    def load(cls, path: Path, key: str, hash_buckets: int | None = None) -> Vocabulary:
        """Read what `save` wrote."""
        frame = pl.read_parquet(path, memory_map=False)
        return cls(frame["key"], frame["count"], key, hash_buckets)


def count_vocabulary(
    values: Sequence[pl.LazyFrame],
    key: str,
    min_count: int = 1,
    max_vocabulary: int | None = None,
    by: str = "count",
) -> Vocabulary:
    """Count the column `value` of several frames and give each value a row, the null the last of its equals.

    Rows are in the order of counts, the most frequent first and ties in the order of the values, or, `by="value"`, in
    that of the values.
    """
    parts = []
    for frame in values:
        counts = frame.group_by("value").agg(pl.len().cast(pl.Int64).alias("count")).collect(engine="streaming")
        parts.append(counts.with_columns(as_keys(pl.col("value"), counts.schema["value"], key)))
    counts = pl.concat(parts).group_by("value").agg(pl.col("count").sum()).filter(pl.col("count") >= min_count)
    if by == "count":
        counts = counts.sort(["count", "value"], descending=[True, False], nulls_last=True)
    else:
        counts = counts.sort("value", nulls_last=True)
    if max_vocabulary is not None:
        counts = counts.head(max_vocabulary)
    return Vocabulary(counts["value"], counts["count"], key)
