"""Softmax cross-entropy within groups."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.groups import Groups


class Listwise(Loss):
    """`-sum_i y_i / sum_j y_j * log softmax(s)_i` over the rows of a group: its positives compete with its other rows.

    ListNet's top-one loss (Cao et al., ICML 2007) for binary labels. A batch's loss is the mean over its groups with
    both labels; 0 where there is none. Scores rank within a group and are no log odds.
    """

    paper = "Cao et al., ICML 2007"
    gives_probabilities = False
    needs_groups = True

    def over_batch(
        self, label: tf.Tensor, prediction: Prediction, weight: tf.Tensor | None, groups: tf.Tensor | None
    ) -> tf.Tensor:
        assert groups is not None
        lists = Groups(groups, weight)
        positive, negative = lists.weight * label, lists.weight * (1.0 - label)
        positives = lists.sum(positive)
        has_both = tf.cast((positives > 0) & (lists.sum(negative) > 0), tf.float32)
        losses = -tf.math.divide_no_nan(lists.sum(positive * lists.log_softmax(prediction.outputs[0])), positives)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * has_both), tf.reduce_sum(has_both))
