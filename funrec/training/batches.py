"""Shuffled batches as a function of seed and step, so that a run can be continued from a counter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from funrec.schema import InputLayout


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
    def groups(self) -> Any: ...
    def __len__(self) -> int: ...


class BatchStream:
    """An endless sequence of whole batches: one shuffled pass over the rows after the other.

    Passes follow each other without a gap, so that every batch is whole and every row occurs once per pass.

    Args:
        rows: The training split.
        layout: Which features its arrays hold.
        batch_size: Rows per batch; no more than there are.
        seed: The run's seed, which with the number of the pass decides its order.
        has_groups: Whether batches have the rows' group codes, for losses that compare rows of a group.
    """

    def __init__(self, rows: Rows, layout: InputLayout, batch_size: int, seed: int, has_groups: bool = False) -> None:
        self.has_groups = has_groups
        self.rows = rows
        self.layout = layout
        self.batch_size = min(batch_size, len(rows))
        self.seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def steps_until(self, epoch: int) -> int:
        """Return how many steps there are before `epoch` (counted from 0) begins."""
        return epoch * len(self.rows) // self.batch_size

    def block(self, first_step: int, steps: int) -> dict[str, Any]:
        """Return the batches of `steps` steps, every array of shape `(steps, batch_size, ...)`."""
        start = first_step * self.batch_size
        index = self._indices(start, start + steps * self.batch_size)
        arrays = take_features(self.rows, self.layout, index)
        arrays["labels"] = self.rows.labels[index]
        weights = take_weights(self.rows, index)
        if weights is not None:
            arrays["weights"] = weights
        shape = (steps, self.batch_size)
        sequences = {name: values.reshape(*shape, -1) for name, values in arrays.pop("sequences").items()}
        block = {name: values.reshape(*shape, -1) for name, values in arrays.items()} | {"sequences": sequences}
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
            dtype = np.int32 if len(self.rows) < 2**31 else np.int64
            self._orders[epoch] = generator.permutation(np.arange(len(self.rows), dtype=dtype))
        return self._orders[epoch]


def cut_epoch(first: int, last: int, size: int, stops: Sequence[int], done: int = 0) -> list[tuple[int, int]]:
    """Cut an epoch's steps into blocks, and return those that are left.

    Blocks begin where they would if none were done, so that a resumed epoch adds its sums up in the same order.

    Args:
        first: The epoch's first step.
        last: The next epoch's first step.
        size: Most steps in a block.
        stops: Steps that blocks end at whatever their size.
        done: Steps already done.
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
        feature.name: rows.sequences[feature.name].padded(index, feature.max_length)
        for feature in layout.sequence_features
    }
    return features


def take_weights(rows: Rows, index: np.ndarray) -> np.ndarray | None:
    """Return the rows' weights by task, 0 where masked; None where all are 1."""
    masks = None if rows.masks is None else rows.masks[index].astype(np.float32)
    if rows.weights is None:
        return masks
    return rows.weights[index] if masks is None else rows.weights[index] * masks
