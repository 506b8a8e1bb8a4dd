"""Rows of a batch by group: what losses that compare the rows of a group have in common."""

from __future__ import annotations

import tensorflow as tf


class Groups:
    """The groups of a batch, numbered from 0.

    Args:
        codes: The rows' group codes, `(batch,)`.
        weight: The rows' weights, `(batch,)`; None where all are 1. Rows of weight 0 are in no group.
    """

    def __init__(self, codes: tf.Tensor, weight: tf.Tensor | None) -> None:
        self.of_row = tf.unique(codes).idx
        self.count = tf.shape(codes)[0]
        self.weight = tf.ones(tf.shape(codes)) if weight is None else weight
        self.is_valid = self.weight > 0

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Return the sum of `(batch,)` over the rows of every group, `(groups,)`."""
        return tf.math.unsorted_segment_sum(values, self.of_row, self.count)

    def log_softmax(self, scores: tf.Tensor) -> tf.Tensor:
        """Return the logarithm of a softmax over the valid rows of each row's group, `(batch,)`."""
        lowest = tf.where(self.is_valid, tf.stop_gradient(scores), scores.dtype.min)
        highest = tf.gather(tf.math.unsorted_segment_max(lowest, self.of_row, self.count), self.of_row)
        centred = tf.where(self.is_valid, scores - highest, 0.0)
        total = self.sum(tf.where(self.is_valid, tf.exp(centred), 0.0))
        # A group without a valid row has no sum; its rows have no weight either.
        return centred - tf.math.log(tf.gather(tf.where(total > 0, total, 1.0), self.of_row))
