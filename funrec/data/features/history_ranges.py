"""Statistics over what each row may see of its key's past: ranges of rows in the order of key and time."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.utils.errors import InputError

Ints = NDArray[np.int64]
#: Sums are kept in units of 2^-32, in two whole numbers: exact, so the order of the rows does not matter.
_FRACTION = float(1 << 32)
_LARGEST = float(1 << 52)


class Clock:
    """Which instants a row sees, by the instant it has itself.

    A row at time `t` sees times `<= t - lag`, and with a window only those `>= t - window`. With `end`, rows after
    `end + lag` see what a row at `end + lag` does: the log as it was known when training ended.

    Args:
        times: Time of every row, `(rows,)`, in any order.
        end: Last time that may be seen; None for no such time.
    """

    def __init__(self, times: Ints, end: int | None = None) -> None:
        self.is_sorted = bool((times[1:] >= times[:-1]).all())
        if self.is_sorted:
            is_new = np.concatenate(([True], times[1:] != times[:-1]))[: len(times)]
            self.instants = times[is_new]
            #: Place of every row's time among all distinct times; int32 `(rows,)`.
            self.ranks = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
        else:
            self.instants = np.unique(times)
            self.ranks = np.searchsorted(self.instants, times).astype(np.int32)
        self._end = end
        self._seen: dict[int, NDArray[np.int32]] = {}

    def seen(self, lag: int) -> NDArray[np.int32]:
        """Return how many of the distinct times a row at each of them sees; at least its own is not seen."""
        if lag not in self._seen:
            self._seen[lag] = self._count_seen(lag)
        return self._seen[lag]

    def _count_seen(self, lag: int) -> NDArray[np.int32]:
        last = self._effective(lag) - max(lag, 1)
        return np.searchsorted(self.instants, last, side="right").astype(np.int32)

    def forgotten(self, lag: int, window: int) -> NDArray[np.int32]:
        """Return how many of the distinct times lie before a row's window, for a row at each of them."""
        return np.searchsorted(self.instants, self._effective(lag) - window, side="left").astype(np.int32)

    def _effective(self, lag: int) -> Ints:
        return self.instants if self._end is None else np.minimum(self.instants, self._end + max(lag, 1))


@dataclass(frozen=True)
class Numbers:
    """A column of numbers as exact sums need it.

    Attributes:
        valid: Where there is a number.
        whole: Its whole part; 0 where there is none.
        fraction: The rest in units of 2^-32; None where every number is whole.
    """

    valid: NDArray[np.bool_]
    whole: Ints
    fraction: Ints | None

    @classmethod
    def read(cls, key: str, values: pl.Series) -> Numbers:
        """Read a column; a null or NaN is no number."""
        if values.dtype.is_integer() or values.dtype == pl.Boolean:
            return cls(values.is_not_null().to_numpy(), values.cast(pl.Int64).fill_null(0).to_numpy(), None)
        numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        valid = ~np.isnan(numbers)
        numbers = np.where(valid, numbers, 0.0)
        if (np.abs(numbers) >= _LARGEST).any():
            bad = numbers[np.argmax(np.abs(numbers) >= _LARGEST)]
            raise InputError(f"{key} should be finite numbers below 2^52. Received: {bad:g}.")
        whole = np.floor(numbers)
        fraction = np.rint((numbers - whole) * _FRACTION).astype(np.int64)
        return cls(valid, whole.astype(np.int64), fraction if fraction.any() else None)


class KeyOrder:
    """The rows of some keys, sorted by key and then time, and the range of them that each row sees.

    Args:
        places: Where in their frame the rows stand, key by key and by time within a key; `(rows,)`.
        lengths: Rows of each key, in that order; `(keys,)`.
        ranks: Place of each row's time among the log's distinct times, in this order; int32 `(rows,)`.
        clock: The log's times.
    """

    def __init__(self, places: Ints, lengths: Ints, ranks: NDArray[np.int32], clock: Clock) -> None:
        self.places = places
        self.times = clock.instants[ranks]
        self._clock, self._ranks = clock, ranks
        self._key_starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        #: Key and time as one number each, which never falls: a range's ends are found among them.
        self._keys = np.repeat(np.arange(len(lengths)) << 32, lengths)
        self._moments = self._keys | ranks
        self._ranges: dict[tuple[int, int | None], tuple[Ints, Ints]] = {}
        self._lock = threading.Lock()

    def seen(self, lag: int) -> NDArray[np.int32]:
        """Return how many of the log's distinct times each row sees."""
        return self._clock.seen(lag)[self._ranks]

    def ranges(self, lag: int, window: int | None) -> tuple[Ints, Ints]:
        """Return where the range of rows that each row sees begins and ends, within the order; `(rows,)` each."""
        with self._lock:
            if (lag, window) not in self._ranges:
                starts, ends = self._key_starts, np.searchsorted(self._moments, self._keys | self.seen(lag))
                if window is not None:
                    forgotten = self._clock.forgotten(lag, window)[self._ranks]
                    starts = np.searchsorted(self._moments, self._keys | forgotten)
                self._ranges[lag, window] = starts, np.maximum(starts, ends)
            return self._ranges[lag, window]

    def previous(self, rows: Ints, values: pl.Series) -> Ints:
        """Return the place among `rows` of the one before of the same key and value; -1 where there is none."""
        frame = pl.DataFrame({"key": self._keys[rows], "value": values, "place": np.arange(len(rows))})
        return frame.select(pl.col("place").shift(1).over("key", "value").fill_null(-1)).to_series().to_numpy()


@dataclass(frozen=True)
class Events:
    """The rows of a `KeyOrder` that count as events, and which of them each row sees.

    Attributes:
        rows: Places of the events in the order; rising.
        starts: The first event that each row sees, as a place in `rows`; `(rows of the order,)`, never falling.
        ends: One past the last; likewise.
    """

    rows: Ints
    starts: Ints
    ends: Ints

    @classmethod
    def select(cls, counts: NDArray[np.bool_], ranges: tuple[Ints, Ints]) -> Events:
        """Select the rows where `counts` holds; it is in the order."""
        running = _running(counts.astype(np.int64))
        return cls(np.flatnonzero(counts), running[ranges[0]], running[ranges[1]])

    @property
    def counts(self) -> Ints:
        """How many events each row sees."""
        return self.ends - self.starts

    def sums(self, numbers: Numbers, places: Ints) -> NDArray[np.float64]:
        """Return the sum over the events that each row sees; `places` says where in `numbers` the events stand."""
        total = self._total(numbers.whole[places]).astype(np.float64)
        if numbers.fraction is not None:
            total += self._total(numbers.fraction[places]) / _FRACTION
        return total

    def _total(self, values: Ints) -> Ints:
        # The running sum may wrap around: a difference of two is exact all the same.
        running = _running(values)
        return running[self.ends] - running[self.starts]

    def distinct(self, previous: Ints) -> Ints:
        """Return how many distinct values each row sees.

        An event counts for the rows that see it and do not see the event before it of the same key and value. Those
        rows follow one another, since no range begins or ends before that of the row before.

        Args:
            previous: Place in `rows` of the event before of the same key and value; -1 where there is none.
        """
        here = np.arange(len(self.rows))
        last = np.searchsorted(self.starts, here, side="right")
        first = np.maximum(
            np.searchsorted(self.ends, here, side="right"), np.searchsorted(self.starts, previous, side="right")
        )
        size = len(self.starts) + 1
        changes = np.bincount(np.minimum(first, last), minlength=size) - np.bincount(last, minlength=size)
        return np.cumsum(changes)[:-1]

    def newest(self, length: int) -> tuple[Ints, Ints]:
        """Return where the newest `length` events that each row sees begin in `rows`, and how many there are."""
        starts = np.maximum(self.starts, self.ends - length)
        return starts, self.ends - starts

    def last(self) -> Ints:
        """Return the place in the order of the newest event that each row sees; any place where it sees none."""
        return self.rows[self.ends - 1] if len(self.rows) else np.zeros(len(self.ends), np.int64)


def _running(values: Ints) -> Ints:
    running = np.empty(len(values) + 1, np.int64)
    running[0] = 0
    np.cumsum(values, out=running[1:])
    return running
