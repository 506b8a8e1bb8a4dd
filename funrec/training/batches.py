"""Shuffled batches as a function of seed and step, so that a run can be continued from a counter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from funrec.schema import InputLayout
from funrec.utils.errors import InputError

#: Every row of a batch.
ALL = slice(None)


class Rows(Protocol):
    """The arrays of one split that batches are made of; see `funrec.data.arrays.SplitArrays`."""

    @property
    def ids(self) -> Any: ...
    @property
    def numeric(self) -> Any: ...
    @property
    def sequences(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def masks(self) -> Any: ...
    @property
    def weights(self) -> Any: ...
    @property
    def observed(self) -> Any: ...
    @property
    def groups(self) -> Any: ...
    def __len__(self) -> int: ...


class BatchStream:
    """An endless sequence of whole batches: one shuffled pass over the rows after the other.

    Passes follow each other without a gap, so that every batch is whole and every row occurs once per pass.

    With `by_group` the rows of a group follow each other, in an order of groups that is new in every pass: a batch has
    whole groups, but for those that its ends cut in two. A group of more rows than a quarter of a batch is cut into
    pieces, so that no user fills a batch alone.

    Args:
        rows: The training split.
        layout: Which features its arrays hold.
        batch_size: Rows per batch; no more than there are.
        seed: The run's seed, which with the number of the pass decides its order.
        has_groups: Whether batches have the rows' group codes, for losses that compare rows of a group.
        by_group: Whether the rows of a group stay together.
        part: Which rows of a batch have features here; labels are those of all.
    """

    def __init__(
        self,
        rows: Rows,
        layout: InputLayout,
        batch_size: int,
        seed: int,
        has_groups: bool = False,
        by_group: bool = False,
        part: slice = ALL,
    ) -> None:
        self.has_groups = has_groups
        self.by_group = by_group
        self.rows = rows
        self.layout = layout
        self.batch_size = min(batch_size, len(rows))
        self.seed = seed
        self.part = part
        self._orders: dict[int, np.ndarray] = {}

    def steps_until(self, epoch: int) -> int:
        """Return how many steps there are before `epoch` (counted from 0) begins."""
        return epoch * len(self.rows) // self.batch_size

    def block(self, first_step: int, steps: int) -> dict[str, Any]:
        """Return the batches of `steps` steps, every array of shape `(steps, batch_size, ...)`."""
        start = first_step * self.batch_size
        index = self._indices(start, start + steps * self.batch_size)
        shape = (steps, self.batch_size)
        own = index.reshape(shape)[:, self.part]
        features = take_features(self.rows, self.layout, own.ravel())
        sequences = {name: values.reshape(*own.shape, -1) for name, values in features.pop("sequences").items()}
        block = {name: values.reshape(*own.shape, -1) for name, values in features.items()} | {"sequences": sequences}
        observed = None if self.rows.observed is None else self.rows.observed[index]
        targets = {"labels": self.rows.labels[index], "weights": take_weights(self.rows, index), "observed": observed}
        block |= {name: values.reshape(*shape, -1) for name, values in targets.items() if values is not None}
        if self.has_groups:
            block["groups"] = np.asarray(self.rows.groups[index]).reshape(shape)
        return block

    def _indices(self, start: int, stop: int) -> np.ndarray:
        size = len(self.rows)
        parts = []
        while start < stop:
            epoch, offset = divmod(start, size)
            part = self._order(epoch)[offset : min(size, offset + stop - start)]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known == epoch - 1}
            generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))
            order = self._pieces.shuffled(generator) if self.by_group else generator.permutation(self._all)
            self._orders[epoch] = order
        return self._orders[epoch]

    @property
    def _all(self) -> np.ndarray:
        return np.arange(len(self.rows), dtype=np.int32 if len(self.rows) < 2**31 else np.int64)

    @cached_property
    def _pieces(self) -> Pieces:
        # Which rows of a large group share a piece does not depend on the pass, so that rows are sorted once.
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, 2**64 - 1], np.uint64)))
        shuffled = generator.permutation(self._all)
        groups = np.asarray(self.rows.groups)[shuffled]
        order = np.argsort(groups, kind="stable")
        return Pieces(shuffled[order], groups[order], max(1, self.batch_size // 4))

    def check_groups(self, steps: int = 100) -> None:
        """Raise `InputError` if every row of the first batches is alone in its group."""
        for step in range(steps):
            index = self._indices(step * self.batch_size, (step + 1) * self.batch_size)
            if np.unique(self.rows.groups[index]).size < self.batch_size:
                return
        raise InputError(
            "A batch should have several rows of a group for a loss that compares them. Every row is alone in its "
            f"group in the first {steps} batches. Set trainer.batch_by=group, or check dataset.group."
        )


class Pieces:
    """Groups of rows, large ones in pieces, to be shuffled as a whole.

    `groups` are those of the `rows`, equal ones together, both `(rows,)`; a piece has at most `size` rows.
    """

    def __init__(self, rows: np.ndarray, groups: np.ndarray, size: int) -> None:
        places = np.arange(rows.size)
        is_first = np.concatenate(([True], groups[1:] != groups[:-1]))
        place_in_group = places - np.maximum.accumulate(np.where(is_first, places, 0))
        self._rows = rows
        self._starts = np.flatnonzero(is_first | (place_in_group % size == 0))
        self._sizes = np.diff(self._starts, append=rows.size)

    def shuffled(self, generator: np.random.Generator) -> np.ndarray:
        """Return all rows, those of a piece one after the other, the pieces in a random order."""
        order = generator.permutation(self._starts.size)
        starts, sizes = self._starts[order], self._sizes[order]
        return self._rows[np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(self._rows.size)]


def cut_epoch(first: int, last: int, size: int, stops: Sequence[int], done: int = 0) -> list[tuple[int, int]]:
    """Cut an epoch's steps into blocks, and return those that are left.

    Blocks begin where they would if none were done, so that a resumed epoch adds its sums up in the same order.
    A block has at most `size` steps, and ends at the steps in `stops` whatever its size; `done` steps are done.
    """
    edges = sorted({*range(first, last, size), *(stop for stop in stops if first < stop), last})
    return [(max(start, done), stop) for start, stop in pairwise(edges) if stop > done]


def read_ahead(stream: BatchStream, blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield every block with its batches, and gather the next one's rows while it trains."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="funrec-batches") as pool:
        pending = [pool.submit(stream.block, start, stop - start) for start, stop in blocks[:1]]
        for i, (start, stop) in enumerate(blocks):
            block = pending.pop().result()
            if i + 1 < len(blocks):
                following, until = blocks[i + 1]
                pending.append(pool.submit(stream.block, following, until - following))
            yield start, stop, block


def take_features(rows: Rows, layout: InputLayout, index: np.ndarray | slice) -> dict[str, Any]:
    """Return the model's inputs for the rows at `index`."""
    features: dict[str, Any] = {"ids": np.asarray(rows.ids[index])}
    if layout.numeric_features:
        features["numeric"] = np.asarray(rows.numeric[index])
    if isinstance(index, slice):
        index = np.arange(*index.indices(len(rows)))
    features["sequences"] = {
        feature.name: _pad(rows.sequences[feature.name], index, feature.max_length)
        for feature in layout.sequence_features
    }
    return features


def _pad(sequence: Any, index: np.ndarray, most: int) -> np.ndarray:
    """Return the rows' lists, as long as the longest of them (and at least 1)."""
    lengths = np.asarray(sequence.offsets[index + 1]) - np.asarray(sequence.offsets[index])
    return np.asarray(sequence.padded(index, max(1, min(most, int(lengths.max(initial=0))))))


def take_weights(rows: Rows, index: np.ndarray) -> np.ndarray | None:
    """Return the rows' weights by task, 0 where masked; None where all are 1."""
    masks = None if rows.masks is None else rows.masks[index].astype(np.float32)
    if rows.weights is None:
        return masks
    return rows.weights[index] if masks is None else rows.weights[index] * masks
