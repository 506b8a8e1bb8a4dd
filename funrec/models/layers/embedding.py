"""One fused embedding table: one lookup a step, however many features there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from funrec.models.layers.randomness import uniform_initializer
from funrec.models.layers.sequences import EventReader
from funrec.models.structure import Field
from funrec.schema import Feature, SequenceFeature, event_columns

#: A penalty's weight, and what makes the weights that are kept those that it is on.
Penalty = tuple[float, Callable[[tf.Tensor], tf.Tensor] | None]


class Lookup(NamedTuple):
    """What a batch read from one table.

    Attributes:
        ids: Rows of the table, int32 `(places,)`: of the features with one id a row, then of events.
        rows: Their weights, `(places, width)`.
    """

    ids: tf.Tensor
    rows: tf.Tensor


class Embedded(NamedTuple):
    """What the lookup gives.

    Attributes:
        x: `(batch, width)` where the backbone reads one copy, else `(copies, batch, width)`.
        linear: `(batch, towers)`, the sum of the features' linear weights; None without a linear term.
        lookups: What was read, by table.
        context: What the backbone reads beside `x`, `(batch, width)`; None for most.
    """

    x: tf.Tensor
    linear: tf.Tensor | None
    lookups: tuple[Lookup, ...]
    context: tf.Tensor | None = None


@dataclass(frozen=True)
class _Table:
    """The features of one row width: where their rows start, and where their ids stand in the batch."""

    names: tuple[str, ...]  # of the features, those in `ids` first
    dim: int
    width: int
    rows: int
    first_row_of: Mapping[str, int]  # the out-of-vocabulary row of every feature that owns rows
    id_columns: np.ndarray  # int32 (features,)
    id_offsets: np.ndarray  # int32 (features,)
    sequences: tuple[tuple[SequenceFeature, int], ...]  # with the offset of each


class FusedEmbedding(keras.layers.Layer):
    """All features' embeddings in one table per row width, linear weights beside them in the same row.

    A row of a feature is `[copy 1 | copy 2 | ... | linear weights]`. Row 0 of every feature, the
    out-of-vocabulary row, starts at zero, so it reads as zeros until training meets an unknown id.

    Args:
        features: The features that have embeddings.
        id_features: Names of those that are columns of `ids`, in order.
        cardinalities: Rows of every feature's table, the out-of-vocabulary row included.
        copies: How many independent embeddings every feature has (one per tower for single_task).
        dim: Width of one copy; the features' own `embedding_dim` where None.
        linear_units: Linear weights per row, one per tower; 0 for no linear term.
        limit: Embeddings start uniform on (-limit, limit), linear weights at zero.
        has_weighted_pooling: Whether sequences may be pooled by weights of their own; if not, the mean stands in.

    Input: `{"ids": int32 (batch, id_features), "sequences": {name: int32 (batch, length)}}`, -1 where a
    sequence has ended. Only events that are there are looked up and pooled.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        id_features: Sequence[str],
        cardinalities: Mapping[str, int],
        copies: int = 1,
        dim: int | None = None,
        linear_units: int = 0,
        limit: float = 0.05,
        has_weighted_pooling: bool = True,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.copies = copies
        self.limit = limit
        self.linear_units = linear_units
        self._inverse_counts: list[tf.Variable] = []
        by_dim: dict[int, list[Feature]] = {}
        for feature in features:
            by_dim.setdefault(dim or feature.embedding_dim, []).append(feature)
        self.tables = [
            _plan_table(members, list(id_features), cardinalities, table_dim, copies * table_dim + linear_units)
            for table_dim, members in by_dim.items()
        ]
        dims = {feature.name: dim or feature.embedding_dim for feature in features}
        self.readers = [
            EventReader(columns, dims, copies, id_features, has_weighted_pooling, dtype=self.dtype_policy)
            for columns in event_columns(features)
        ]

    def build(self, input_shape: Any = None) -> None:
        self.weights_by_table = []
        for table in self.tables:
            start = _row_initializer(table, self.copies * table.dim, self.limit)
            shape = (table.rows, table.width)
            self.weights_by_table.append(self.add_weight(shape=shape, initializer=start, name=f"table_{table.width}"))
        for reader in self.readers:
            reader.build()
        self.built = True

    @property
    def width(self) -> int:
        """Width of one copy of all features side by side."""
        return sum(field.width for field in self.fields)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The features, in the order in which their embeddings stand side by side."""
        return tuple(Field(name, table.dim) for table in self.tables for name in table.names)

    def call(self, inputs: Mapping[str, Any]) -> Embedded:
        events = [reader.select(inputs) for reader in self.readers]
        ids = {name: flat for found in events for name, flat in found.ids.items()}
        lookups, pooled = [], []
        rows: dict[str, tf.Tensor] = {}
        for table, weight in zip(self.tables, self.weights_by_table, strict=True):
            lookup, of_ids, of_events = self._look_up(table, weight, inputs["ids"], ids)
            lookups.append(lookup)
            pooled.append(of_ids)
            rows |= of_events
        by_id = {
            name: of_ids[:, place]
            for table, of_ids in zip(self.tables, pooled, strict=True)
            for place, name in enumerate(table.names[: len(table.id_columns)])
        }
        for reader, found in zip(self.readers, events, strict=True):
            rows |= reader(found, rows, by_id)
        blocks, linear = [], []
        for table, of_ids in zip(self.tables, pooled, strict=True):
            if table.sequences:
                of_sequences = tf.stack([rows[feature.name] for feature, _ in table.sequences], axis=1)
                of_ids = tf.concat([of_ids, of_sequences], axis=1)
            if self.linear_units:  # which stand last
                linear.append(tf.reduce_sum(of_ids[:, :, -self.linear_units :], axis=1))
                of_ids = of_ids[:, :, : -self.linear_units]
            blocks.append(self._lay_out(table, of_ids))
        if not blocks:  # numbers only
            blocks.append(tf.zeros((*([self.copies] if self.copies > 1 else []), tf.shape(inputs["ids"])[0], 0)))
        x = blocks[0] if len(blocks) == 1 else tf.concat(blocks, axis=-1)
        return Embedded(x, tf.add_n(linear) if linear else None, tuple(lookups))

    def count_lookups(self, counts: Mapping[str, np.ndarray]) -> None:
        """Learn how often training looks every row up, `(cardinality,)` by the feature that owns them; for `ridge`."""
        self._inverse_counts = []
        for table in self.tables:
            inverse = np.zeros(table.rows, np.float32)
            for name, first in table.first_row_of.items():
                inverse[first : first + len(counts[name])] = 1.0 / np.maximum(counts[name], 1)
            self._inverse_counts.append(tf.Variable(inverse, trainable=False))

    def ridge(
        self, lookups: Sequence[Lookup], embeddings: Penalty, linear: Penalty = (0.0, None)
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `sum(||w||^2 / count)` over the rows that a batch looked up, weighted.

        The first is of the embeddings, by copy, `(copies,)`, the second of the linear weights, by tower,
        `(linear_units,)`.

        A row's share of the penalty is divided by how often a pass over the training split looks it up, so that
        a pass adds up to the ridge penalty on the whole table at the cost of the batch's rows.

        Raises:
            RuntimeError: Before `count_lookups`.
        """
        if len(self._inverse_counts) != len(self.tables):
            raise RuntimeError("A penalty needs to know how often rows are looked up: call count_lookups first.")
        totals = [tf.zeros(self.copies), tf.zeros(self.linear_units)]
        for table, lookup, inverse in zip(self.tables, lookups, self._inverse_counts, strict=True):
            width = table.width - self.linear_units
            rows = tf.cast(lookup.rows, tf.float32)
            shares = tf.gather(inverse, lookup.ids)
            for place, ((weight, effective), part) in enumerate(
                ((embeddings, rows[..., :width]), (linear, rows[..., width:]))
            ):
                if weight and effective is not None:
                    by_column = tf.tensordot(shares, tf.square(effective(part)), 1)
                    owners = totals[place].shape[0]
                    totals[place] += weight * tf.reduce_sum(tf.reshape(by_column, (owners, -1)), axis=1)
        return totals[0], totals[1]

    def _look_up(
        self, table: _Table, weight: Any, ids: tf.Tensor, events: Mapping[str, tf.Tensor]
    ) -> tuple[Lookup, tf.Tensor, dict[str, tf.Tensor]]:
        """Return what was read, that of ids as `(batch, features, width)`, and that of events by sequence."""
        if list(table.id_columns) != list(range(ids.shape[1])):
            ids = tf.gather(ids, table.id_columns, axis=1)
        places = tf.reshape(ids + table.id_offsets, [-1])
        flat = [events[feature.name] + offset for feature, offset in table.sequences]
        everything = tf.concat([places, *flat], axis=0) if flat else places
        # One gather for all of them, from the variable itself: reading it first would copy the whole table.
        rows = tf.cast(tf.gather(weight.value, everything), self.compute_dtype)
        of_ids, *of_events = tf.split(rows, [tf.size(part) for part in (places, *flat)]) if flat else [rows]
        names = [feature.name for feature, _ in table.sequences]
        by_row = tf.reshape(of_ids, (tf.shape(ids)[0], len(table.id_columns), table.width))
        return Lookup(everything, rows), by_row, dict(zip(names, of_events, strict=True))

    def _lay_out(self, table: _Table, pooled: tf.Tensor) -> tf.Tensor:
        features = pooled.shape[1]
        if self.copies == 1:
            return tf.reshape(pooled, (-1, features * table.dim))
        by_copy = tf.reshape(pooled, (-1, features, self.copies, table.dim))
        return tf.reshape(tf.transpose(by_copy, (2, 0, 1, 3)), (self.copies, -1, features * table.dim))


def _plan_table(
    members: Sequence[Feature], id_features: Sequence[str], cardinalities: Mapping[str, int], dim: int, width: int
) -> _Table:
    """Return the table of the features whose embeddings have one width."""
    offsets: dict[str, int] = {}
    rows = 0
    for feature in members:
        if feature.share_with is None:
            offsets[feature.name] = rows
            rows += cardinalities[feature.name]
    start = {feature.name: offsets[feature.share_with or feature.name] for feature in members}
    with_ids = [feature for feature in members if feature.name in id_features]
    sequences = [feature for feature in members if isinstance(feature, SequenceFeature)]
    return _Table(
        names=tuple(feature.name for feature in (*with_ids, *sequences)),
        dim=dim,
        width=width,
        rows=rows,
        first_row_of=offsets,
        id_columns=np.asarray([id_features.index(feature.name) for feature in with_ids], np.int32),
        id_offsets=np.asarray([start[feature.name] for feature in with_ids], np.int32),
        sequences=tuple((feature, start[feature.name]) for feature in sequences),
    )


def _row_initializer(table: _Table, embedding_width: int, limit: float) -> Any:
    def initialize(shape: Any, dtype: Any = None) -> tf.Tensor:
        embeddings = uniform_initializer(limit)((table.rows, embedding_width))
        known = np.ones((table.rows, 1), np.float32)
        known[list(table.first_row_of.values())] = 0.0
        return tf.pad(embeddings * known, ((0, 0), (0, table.width - embedding_width)))

    return initialize
