"""From the sequences of a batch to one vector per feature and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from funrec.models.layers.pooling import Events, MeanPooling, Pooling, build_pooling
from funrec.models.layers.search import search_events
from funrec.schema import SequenceFeature


class FlatIds(NamedTuple):
    """The ids of all events of a batch, one after another.

    Attributes:
        ids: By column, int32 `(events,)`.
        owners: Which row an event belongs to, int32 `(events,)`.
        places: Its place in the row's sequence, the oldest being 0; int32 `(events,)`.
        batch: Rows of the batch, a scalar.
    """

    ids: Mapping[str, tf.Tensor]
    owners: tf.Tensor
    places: tf.Tensor
    batch: tf.Tensor


@keras.saving.register_keras_serializable(package="funrec")
class EventReader(keras.layers.Layer):
    """Reads sequences whose lists are of the same events: selects the events, and pools their embeddings.

    Args:
        columns: The sequences; the first says how all are pooled.
        dims: Width of one copy of each feature's embedding, by the name of the feature.
        copies: Independent copies of the embeddings.
        id_features: Names of the columns of `ids`.
        has_weights: Whether poolings may have weights; if not, the mean stands in for those that do.
    """

    def __init__(
        self,
        columns: Sequence[SequenceFeature],
        dims: Mapping[str, int],
        copies: int,
        id_features: Sequence[str],
        has_weights: bool = True,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.first = columns[0]
        self.copies = copies
        self.dims = dims
        self.id_features = list(id_features)
        # Those that the row itself has a counterpart of come first, as a pooling reads them.
        self.columns = sorted(columns, key=lambda column: column.counterpart not in id_features)
        self.targets = [str(c.counterpart) for c in self.columns if c.counterpart in id_features]
        self.pooling: Pooling = build_pooling(self.first, self.id_features, dtype=self.dtype_policy)
        if self.pooling.reads_target and not has_weights:
            self.pooling = MeanPooling(dtype=self.dtype_policy)
        width = sum(dims[column.name] for column in self.columns)
        most = self.first.max_length if self.first.search is None else self.first.search_length
        self.pooling.configure(copies, width, sum(dims[name] for name in self.targets), most)
        #: For linear weights, which have no copies to attend with.
        self.plain = MeanPooling(dtype=self.dtype_policy) if self.pooling.reads_target else self.pooling

    def build(self, input_shape: Any = None) -> None:
        self.pooling.build()
        self.plain.build()

    def select(self, inputs: Mapping[str, Any]) -> FlatIds:
        """Return the ids of a batch's events, those that the search finds if there is one."""
        padded = [tf.convert_to_tensor(inputs["sequences"][column.name]) for column in self.columns]
        names = [column.name for column in self.columns]
        if self.first.search is not None:
            keys = padded[[column.share_with for column in self.columns].index(self.first.search)]
            wanted = inputs["ids"][:, self.id_features.index(self.first.search)]
            padded = search_events(padded, keys, wanted, self.first.search_length)
        there = tf.where(padded[names.index(self.first.name)] >= 0)
        # A row that has fewer values in another column than in the first has unknown ones there.
        ids = [tf.maximum(tf.gather_nd(column, there), 0) for column in padded]
        owners, places = tf.unstack(tf.cast(there, tf.int32), axis=1)
        return FlatIds(dict(zip(names, ids, strict=True)), owners, places, tf.shape(padded[0])[0])

    def call(
        self, flat: FlatIds, rows: Mapping[str, tf.Tensor], row_ids: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Return one row of the table's width for every column and row of the batch, `(batch, row width)`.

        Args:
            flat: What `select` returned.
            rows: The events' rows of the table, by column, `(events, row width)`: all copies, then linear weights.
            row_ids: Likewise of features of the row itself, `(batch, row width)`.
        """
        names = [column.name for column in self.columns]
        if self.plain is self.pooling:
            whole = self.pooling(self._events(flat, tf.concat([rows[name] for name in names], axis=1)[None]))[0]
            return dict(zip(names, tf.split(whole, [rows[name].shape[1] for name in names], axis=1), strict=True))
        target = tf.concat([self._by_copy(row_ids[name], name) for name in self.targets], axis=-1)
        embeddings = tf.concat([self._by_copy(rows[name], name) for name in names], axis=-1)
        pooled = self.pooling(self._events(flat, embeddings), target)
        parts = tf.split(tf.transpose(pooled, (1, 0, 2)), [self.dims[name] for name in names], axis=-1)
        read = {}
        for name, part in zip(names, parts, strict=True):
            width = self.copies * self.dims[name]
            linear = self.plain(self._events(flat, rows[name][None, :, width:]))[0]
            read[name] = tf.concat([tf.reshape(part, (-1, width)), linear], axis=1)
        return read

    def _events(self, flat: FlatIds, rows: tf.Tensor) -> Events:
        return Events(rows, flat.owners, flat.places, flat.batch)

    def _by_copy(self, rows: tf.Tensor, name: str) -> tf.Tensor:
        """Return `(copies, rows, dim)` of `(rows, row width)`."""
        dim = self.dims[name]
        return tf.transpose(tf.reshape(rows[:, : self.copies * dim], (-1, self.copies, dim)), (1, 0, 2))
