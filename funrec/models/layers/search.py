"""Hard search: of a long history, the events that agree with the item at hand."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def search_events(columns: Sequence[tf.Tensor], keys: tf.Tensor, wanted: tf.Tensor, most: int) -> list[tf.Tensor]:
    """Return the newest events whose key is the wanted one, the oldest of them first.

    The general search unit of SIM in its hard form (Pi et al., CIKM 2020, section 3.1): what follows reads the few
    events found, however long the history. An unknown key (row 0) agrees with none.

    Args:
        columns: Ids of the events' columns, int32 `(batch, length)`, -1 where a sequence has ended.
        keys: The column that is searched, likewise.
        wanted: The row's own key, int32 `(batch,)`.
        most: How many events to keep.

    Returns:
        By column: int32 `(batch, at most `most`)`, -1 where there are no more.
    """
    agrees = (keys == wanted[:, None]) & (keys > 0)
    places = tf.where(agrees, tf.range(tf.shape(keys)[1])[None], -1)
    newest = tf.math.top_k(places, tf.minimum(most, tf.shape(keys)[1])).values
    # Those that agree to the front, as a sequence stands: the oldest first, then nothing.
    order = tf.sort(tf.where(newest < 0, tf.int32.max, newest), axis=1)
    is_found = order < tf.int32.max
    order = tf.where(is_found, order, 0)
    return [tf.where(is_found, tf.gather(column, order, batch_dims=1), -1) for column in columns]
