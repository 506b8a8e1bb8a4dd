"""The ridge penalties of a model: on its embeddings, and on its wide part."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.layers.embedding import Embedded
from funrec.models.model import MultiTaskModel


def has_penalty(model: MultiTaskModel) -> bool:
    """Whether `penalty` needs `FusedEmbedding.count_lookups`."""
    return bool(model.embedding_l2 or model.wide.l2)


def penalty(model: MultiTaskModel, embedded: Embedded, rows: int) -> tf.Tensor | None:
    """Return the penalties on what a batch of `rows` looked up; None where there are none.

    That is `(towers + 1,)`: on the weights of each tower alone, then on what towers share.
    """
    if not has_penalty(model):
        return None
    penalties = (model.embedding_l2, model.backbone.effective), (model.wide.l2, model.wide.effective)
    copies, linear = model.embedding.ridge(embedded.lookups, *penalties)
    towers = len(model.funnel.towers)
    own = copies[:towers] if copies.shape[0] >= towers else tf.zeros(towers)
    shared = tf.reduce_sum(copies) - tf.reduce_sum(own)
    if model.wide.units:
        own += linear
    return tf.concat([own, shared[None]], axis=0) / rows


def penalty_weights(model: MultiTaskModel, weights: tf.Tensor) -> tf.Tensor:
    """Return the factors of `penalty`, `(towers + 1,)`, from the tasks' weights in the loss.

    A task's own penalty is weighted with its loss, so that it means the same whatever the weight; what tasks share
    has the factor 1. Towers that are not one per task take the mean weight.
    """
    towers = len(model.funnel.towers)
    own = weights if towers == len(model.tasks) else tf.fill([towers], tf.reduce_mean(weights))
    return tf.concat([own, [1.0]], axis=0)
