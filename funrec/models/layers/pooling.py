"""How the embeddings of a sequence become one: the base of all poolings, and those without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf

from funrec.config.build import build
from funrec.config.catalogue import read_choice
from funrec.schema import SequenceFeature
from funrec.utils.errors import InputError

#: Events are multiplied in whole blocks, so that what a row's events give does not depend on how many there are beside.
BLOCK = 64


class Events(NamedTuple):
    """All events of a batch, one after another, without padding.

    Attributes:
        rows: The embeddings of an event's columns side by side, `(copies, events, width)`.
        owners: Which row of the batch an event belongs to, ascending; int32 `(events,)`.
        places: Its place in the row's sequence, the oldest being 0; int32 `(events,)`.
        batch: Rows of the batch, a scalar.
    """

    rows: tf.Tensor
    owners: tf.Tensor
    places: tf.Tensor
    batch: tf.Tensor

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Sum values of events, `(events, ...)`, by the row that they belong to, `(batch, ...)`."""
        # One more zero for the last row, so that segments reach there.
        more = tf.zeros(tf.concat([[1], tf.shape(values)[1:]], axis=0), values.dtype)
        owners = tf.concat([self.owners, [self.batch - 1]], axis=0)
        return tf.math.segment_sum(tf.concat([values, more], axis=0), owners)

    def max(self, values: tf.Tensor) -> tf.Tensor:
        """Return the largest of `(events, width)` by row, `(batch, width)`; 0 for a row that has no events."""
        size = tf.reduce_max(tf.concat([self.places, [0]], axis=0)) + 1
        padded = tf.fill(tf.stack([self.batch, size, tf.shape(values)[1]]), values.dtype.min)
        padded = tf.tensor_scatter_nd_update(padded, tf.stack([self.owners, self.places], axis=1), values)
        return tf.where(self.lengths[:, None] > 0, tf.reduce_max(padded, axis=1), 0)

    @property
    def lengths(self) -> tf.Tensor:
        """Events of each row, int32 `(batch,)`."""
        return self.sum(tf.ones_like(self.owners))


class Pooling(keras.layers.Layer):
    """Makes one vector of each row's events; zeros where there are none.

    A subclass computes `pool`. One with weights has a `target`, the row's own embeddings, to compare events with.
    """

    #: Where it is from.
    paper = ""
    #: Whether it has weights and reads a target.
    reads_target: ClassVar[bool] = False

    def __init__(self, **layer: Any) -> None:
        super().__init__(**layer)

    def configure(self, copies: int, width: int, target_width: int, most: int) -> None:
        """Take the shapes, before the layer is built.

        Args:
            copies: Independent copies of the embeddings.
            width: Width of an event's embedding.
            target_width: Width of the target, which stands beside the first so many numbers of an event.
            most: Most events of a row.
        """
        self.copies, self.width, self.target_width, self.most = copies, width, target_width, most

    def build(self, input_shape: Any = None) -> None:
        """Make the weights."""

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        """Return `(copies, batch, width)`; `target` is `(copies, batch, target_width)`, None where it is not read."""
        raise NotImplementedError

    def call(self, events: Events, target: tf.Tensor | None = None) -> tf.Tensor:
        return self.pool(events, target)


class MeanPooling(Pooling):
    """The mean of a row's events."""

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        counts = tf.cast(tf.maximum(events.lengths, 1), events.rows.dtype)[:, None]
        return tf.stack([events.sum(rows) / counts for rows in tf.unstack(events.rows)])


class SumPooling(Pooling):
    """The sum of a row's events."""

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        return tf.stack([events.sum(rows) for rows in tf.unstack(events.rows)])


class MaxPooling(Pooling):
    """The largest value of a row's events, number by number."""

    def pool(self, events: Events, target: tf.Tensor | None) -> tf.Tensor:
        return tf.stack([events.max(rows) for rows in tf.unstack(events.rows)])


def build_pooling(feature: SequenceFeature, id_features: Sequence[str], **layer: Any) -> Pooling:
    """Build the pooling that a sequence names: `conf/pooling/<name>.yaml`, with the options given.

    Args:
        feature: The sequence.
        id_features: Features with one id a row.
        layer: Options of a Keras layer.

    Raises:
        InputError: If there is none, an option is refused, or it needs a target and the sequence has none.
    """
    where = f"dataset.features.{feature.name}.pooling"
    options = {"name": feature.pooling} if isinstance(feature.pooling, str) else dict(feature.pooling)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(
            f"{where} should name a pooling, as in mean or {{name: attention, units: [32]}}. "
            f"Received: {feature.pooling}."
        )
    pooling: Pooling = build({**read_choice("pooling", name, where), **options}, Pooling, where, **layer)
    if pooling.reads_target and feature.counterpart not in id_features:
        raise InputError(
            f"dataset.features.{feature.name}.target should name the feature with one id a row that {name} compares "
            f"its events with. Received: {feature.counterpart or 'null'}."
        )
    return pooling
