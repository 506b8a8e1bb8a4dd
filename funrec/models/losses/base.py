"""What a loss is: a task's predictions compared with its labels."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import tensorflow as tf

from funrec.models.funnels.base import LogProbability


class Prediction(NamedTuple):
    """What a model says of a task's rows.

    Attributes:
        probability: Over all exposures, both sides in log space, `(batch,)`. Of a regression task it means nothing.
        outputs: The numbers of the task's tower, `(outputs, batch)`. The first is the logit, or a regression's value.
    """

    probability: LogProbability
    outputs: tf.Tensor


class Loss:
    """A task's loss. One that is a mean over rows defines `per_row`; one that compares rows, `over_batch`."""

    #: Where it is from.
    paper = ""
    #: The kind of task it serves.
    kind: ClassVar[Literal["binary", "regression"]] = "binary"
    #: Whether `over_batch` needs the rows' groups; the dataset must then have a group column.
    needs_groups = False
    #: Numbers that the task's tower returns. More than one only where no funnel mixes towers.
    outputs = 1

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        """Return the loss of every row, `(batch,)`, from labels `(batch,)` and predictions."""
        raise NotImplementedError

    def over_batch(
        self, label: tf.Tensor, prediction: Prediction, weight: tf.Tensor | None, groups: tf.Tensor | None
    ) -> tf.Tensor:
        """Return the loss of a batch, a scalar mean over its valid rows; 0 where no row is valid.

        Args:
            label: `(batch,)`.
            prediction: Of the same rows.
            weight: The rows' weights, `(batch,)`, 0 outside the task's sample space; None where all are 1.
            groups: The rows' group codes, int32 `(batch,)`; None unless `needs_groups`.
        """
        loss = self.per_row(label, prediction)
        if weight is None:
            return tf.reduce_mean(loss)
        return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))

    def value(self, outputs: tf.Tensor) -> tf.Tensor:
        """Return the value `(batch,)` that a regression predicts, from the tower's `(outputs, batch)`."""
        return outputs[0]
