"""What a loss is: a task's predictions compared with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from funrec.models.funnels.base import LogProbability
from funrec.schema import InputLayout, Task
from funrec.utils.errors import InputError, did_you_mean

Array = NDArray[Any]


class Prediction(NamedTuple):
    """What a model says of a task's rows.

    Attributes:
        probability: Over all exposures, both sides in log space, `(batch,)`. Of a regression task it means nothing.
        outputs: The numbers of the task's tower, `(outputs, batch)`. The first is the logit, or a regression's value.
        codes: The rows' codes of the feature that the loss names in `by`, int32 `(batch,)`; None if it names none.
        observed: The chance that a positive label is seen by the end of training, `(batch,)`; None where all are.
    """

    probability: LogProbability
    outputs: tf.Tensor
    codes: tf.Tensor | None = None
    observed: tf.Tensor | None = None


class Loss:
    """A task's loss. One that is a mean over rows defines `per_row`; one that compares rows, `over_batch`.

    A loss may keep numbers of the training labels, such as their mean or quantiles, in `state`: `initial_state` gives
    their names and shapes, `fit` their values. They are saved with the model's weights.
    """

    #: Where it is from.
    paper = ""
    #: The kind of task it serves; one for `regression` serves `duration` too.
    kind: ClassVar[Literal["binary", "regression", "duration"]] = "binary"
    #: Whether the first output is the log odds of the label; of a loss that only ranks it is a score.
    gives_probabilities = True
    #: Whether `over_batch` needs the rows' groups; the dataset must then have a group column.
    needs_groups = False
    #: Whether it reads `Prediction.observed`: the task's `observed_after` then says when labels are seen.
    reads_delays = False
    #: Numbers that the task's tower returns. More than one only where no funnel mixes towers.
    outputs: int = 1
    #: The feature whose codes it reads: a categorical or a bucketed one.
    by: str | None = None
    #: The place of that feature among the ids of a batch, and the number of its codes.
    column: int | None = None
    codes: int = 1
    #: What `fit` found, by name: float32 tensors.
    state: Mapping[str, Any] = MappingProxyType({})

    def configure(self, task: Task, layout: InputLayout) -> None:
        """Take the task and the features, or raise `InputError` if `by` has no codes; called before `initial_state`."""
        if self.by is None:
            return
        if self.by not in layout.id_features:
            raise InputError(
                f"dataset.tasks.{task.name}.loss.by should name a categorical or bucketed feature. Received: {self.by}."
                + did_you_mean(self.by, layout.id_features)
            )
        feature = next(feature for feature in layout.features if feature.name == self.by)
        self.column = layout.id_features.index(self.by)
        self.codes = layout.cardinalities[feature.share_with or feature.name]

    def initial_state(self) -> dict[str, Array]:
        """Return what `state` holds before `fit`, by name."""
        return {}

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        """Return the state that training labels give, of the shapes of `initial_state`.

        Labels `(rows,)` are of at least one row in the task's sample space, codes those of the feature `by`, if any.
        """
        return {}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        """Return where the tower's outputs start, from training labels; None for the funnel's choice, the base rate."""
        return None

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

    def value(self, prediction: Prediction) -> tf.Tensor:
        """Return the value `(batch,)` that is predicted for a regression or duration task."""
        return prediction.outputs[0]


class ValueLoss(Loss):
    """A loss of one output, the predicted value. Durations are read in units of their mean in training.

    A duration may be in seconds or milliseconds: the unit then changes neither the loss nor how fast it is learned.
    """

    kind = "regression"
    is_scaled = False

    def configure(self, task: Task, layout: InputLayout) -> None:
        super().configure(task, layout)
        self.is_scaled = task.kind == "duration"

    def initial_state(self) -> dict[str, Array]:
        return {"mean": np.ones(1, np.float32)} if self.is_scaled else {}

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        return {"mean": mean_of(labels)} if self.is_scaled else {}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        return [1.0] if self.is_scaled else None

    def residual(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        """Return observed less predicted values, `(batch,)`."""
        return (label / self.state["mean"] if self.is_scaled else label) - prediction.outputs[0]

    def value(self, prediction: Prediction) -> tf.Tensor:
        return prediction.outputs[0] * self.state["mean"] if self.is_scaled else prediction.outputs[0]


def mean_of(labels: Array) -> Array:
    """Return the mean of durations, `(1,)`; 1 where all are 0."""
    mean = float(np.mean(labels, dtype=np.float64))
    return np.array([mean if mean > 0 else 1.0], np.float32)
