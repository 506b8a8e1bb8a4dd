"""Pairwise logistic loss within groups."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.losses.base import Loss, Prediction


class Pairwise(Loss):
    """RankNet's loss over pairs of a group with different labels: `log(1 + exp(s_negative - s_positive))`.

    Burges et al., ICML 2005, eq. 3. A batch's loss is the mean over its pairs, a pair weighing the product of its rows'
    weights; 0 where there is no pair. Scores rank within a group and are no log odds.
    """

    paper = "Burges et al., ICML 2005"
    gives_probabilities = False
    needs_groups = True

    def over_batch(
        self, label: tf.Tensor, prediction: Prediction, weight: tf.Tensor | None, groups: tf.Tensor | None
    ) -> tf.Tensor:
        is_positive = label > 0.5
        positives, negatives = (
            tf.where(kept if weight is None else kept & (weight > 0))[:, 0] for kept in (is_positive, ~is_positive)
        )
        same = tf.gather(groups, positives)[:, None] == tf.gather(groups, negatives)[None, :]
        pairs = tf.where(same)
        positive, negative = tf.gather(positives, pairs[:, 0]), tf.gather(negatives, pairs[:, 1])
        score = prediction.outputs[0]
        loss = tf.nn.softplus(tf.gather(score, negative) - tf.gather(score, positive))
        if weight is None:
            return tf.math.divide_no_nan(tf.reduce_sum(loss), tf.cast(tf.shape(loss)[0], loss.dtype))
        pair_weight = tf.gather(weight, positive) * tf.gather(weight, negative)
        return tf.math.divide_no_nan(tf.reduce_sum(loss * pair_weight), tf.reduce_sum(pair_weight))
