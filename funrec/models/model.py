"""The model: embeddings, a backbone, one tower per head, a funnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Backbone
from funrec.models.checks import check_activation, check_flag, check_positive_number, check_rate, check_units
from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.models.layers.embedding import Embedded, FusedEmbedding
from funrec.models.layers.mlp import MLPBank, add_bank_kernel
from funrec.models.layers.randomness import random_sites
from funrec.schema import InputLayout, Task

Batch = Mapping[str, Any]


class MultiTaskModel(keras.Model):
    """A backbone times a funnel.

    Features are embedded in one fused table, the backbone makes one representation per tower, a tower
    makes it a logit, and the funnel makes the logits the tasks' probabilities.

    Args:
        backbone: What the tasks share.
        funnel: How their probabilities depend on each other.
        layout: Which features a batch carries.
        tasks: The tasks, in the order of the label columns.
        tower_units: Hidden units of every tower; the output unit comes on top.
        tower_dropout: Dropout rate after every hidden layer of a tower.
        activation: Activation of the towers.
        batch_normalization: Whether towers normalise before their activation.
        embedding_l2: Ridge penalty on embeddings: `embedding_l2 * sum(||w||^2)` beside the sum of all rows'
            losses. Applied to the rows a batch looks up, never to the whole table. See `FusedEmbedding.ridge`.
        linear_term: Whether every tower's logit gets a sum of one weight per id and number (a wide part;
            Cheng et al., DLRS 2016).
        linear_scale: What the linear term is multiplied by; under Adam, how many times larger its step is.
        linear_l2: Likewise on the linear weights; scikit-learn's logistic regression with `C` has 1 / (2 C).
        precision: `float32`, or `mixed_bfloat16` for matrix products in bfloat16.

    Raises:
        InputError: If a size or a rate is not what it should be, or the funnel cannot serve the tasks.
    """

    def __init__(
        self,
        backbone: Backbone,
        funnel: Funnel,
        layout: InputLayout,
        tasks: Sequence[Task],
        tower_units: Sequence[int] = (32,),
        tower_dropout: float = 0.3,
        activation: str = "relu",
        batch_normalization: bool = False,
        embedding_l2: float = 0.0,
        linear_term: bool = False,
        linear_scale: float = 30.0,
        linear_l2: float = 0.0,
        precision: str = "float32",
    ) -> None:
        super().__init__(dtype=precision)
        tower_units = check_units("model.tower_units", tower_units, allow_empty=True)
        check_activation("model.activation", activation)
        check_rate("model.tower_dropout", tower_dropout)
        check_flag("model.batch_normalization", batch_normalization)
        self.embedding_l2 = check_positive_number("model.embedding_l2", embedding_l2) if embedding_l2 else 0.0
        self.linear_scale = check_positive_number("model.linear_scale", linear_scale)
        self.linear_l2 = check_positive_number("model.linear_l2", linear_l2) if linear_l2 else 0.0
        self.tasks = tuple(tasks)
        self.layout = layout
        self.funnel = funnel
        funnel.configure(self.tasks)
        self.backbone = backbone
        backbone.configure(len(funnel.towers), len(layout.numeric_features), funnel.towers, funnel.tower_parents())
        self.has_linear_term = check_flag("model.linear_term", linear_term) and backbone.has_towers
        copies, dim = backbone.embedding_layout(None)
        self.embedding = FusedEmbedding(
            layout.embedded_features,
            layout.id_features,
            layout.cardinalities,
            copies,
            dim,
            linear_units=len(funnel.towers) if self.has_linear_term else 0,
            limit=backbone.embedding_limit,
            dtype=self.dtype_policy,
        )
        self.towers = (
            Towers(len(funnel.towers), tower_units, activation, tower_dropout, batch_normalization, self.dtype_policy)
            if backbone.has_towers
            else None
        )
        self.linear_coefficients: keras.Variable | None = None

    def initialise(
        self, seed: int, rates: Mapping[str, float] | None = None, counts: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Make the weights, a function of `seed`, with every head starting at its task's base rate.

        Args:
            seed: The run's seed.
            rates: Each task's positive rate (mean, for regression) in the training split.
            counts: How often the training split looks every embedding row up, by feature; needed to train with
                a penalty.
        """
        if counts is not None:
            self.embedding.count_lookups(counts)
        with random_sites(seed, -1):
            if self.has_linear_term and self.layout.numeric_features:
                self.linear_coefficients = self.add_weight(
                    shape=(len(self.layout.numeric_features), len(self.funnel.towers)),
                    initializer="zeros",
                    name="linear_coefficients",
                )
            self(self.layout.empty_batch(rows=2), training=False)
        if rates is not None:
            start = np.asarray(self.funnel.initial_logits(rates), np.float32)
            bias = self.backbone.bias if self.towers is None else self.towers.bias
            bias.assign(start[:, None, None])

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Return the towers' logits, float32 of shape `(towers, batch)`."""
        embeddings = self.embed(batch)
        return self.head(self.backbone(embeddings.x, training=training), embeddings.linear, training)

    def embed(self, batch: Batch) -> Embedded:
        """Look the batch up: `x` is `(batch, width)` or `(copies, batch, width)`, `linear` is `(towers, batch)`."""
        x, linear, lookups = self.embedding(batch)
        numeric = batch.get("numeric")
        if numeric is not None:
            numeric = tf.cast(numeric, x.dtype)
            columns = numeric if len(x.shape) == 2 else tf.repeat(numeric[None], x.shape[0], axis=0)
            x = tf.concat([x, columns], axis=-1)
        if numeric is not None and self.linear_coefficients is not None:
            products = tf.matmul(numeric, tf.cast(tf.convert_to_tensor(self.linear_coefficients), numeric.dtype))
            linear = products if linear is None else linear + products  # none where there are numbers alone
        if linear is not None:
            linear = tf.transpose(tf.cast(linear, tf.float32)) * self.linear_scale
        return Embedded(x, linear, lookups)

    def head(self, representation: tf.Tensor, linear: tf.Tensor | None, training: bool = False) -> tf.Tensor:
        """Return the logits `(towers, batch)` of what the backbone made of the batch, `(towers, batch, units)`."""
        logits = representation if self.towers is None else self.towers(representation, training=training)
        logits = tf.cast(logits[:, :, 0], tf.float32)
        return logits if linear is None else logits + linear

    @property
    def has_penalty(self) -> bool:
        """Whether `penalty` needs `embedding.count_lookups`."""
        is_linear = self.has_linear_term or not self.backbone.has_towers
        return bool((self.embedding_l2 and self.backbone.has_towers) or (self.linear_l2 and is_linear))

    def penalty(self, embedded: Embedded, rows: int) -> tf.Tensor | None:
        """Return the penalty on what a batch of `rows` looked up, or none where there is none."""
        if not self.has_penalty:
            return None
        # Both are penalties on effective weights, however a backbone or the linear term scales those it stores.
        # Without towers the backbone's embeddings are the logit's own linear weights.
        embeddings = self.embedding_l2 if self.backbone.has_towers else self.linear_l2
        embeddings *= self.backbone.embedding_scale**2
        linear = self.linear_l2 * self.linear_scale**2
        return self.embedding.ridge(embedded.lookups, embeddings, linear) / rows

    def auxiliary_loss(self, logits: tf.Tensor) -> tf.Tensor | None:
        """Return what the backbone adds to the tasks' losses (see `Backbone.auxiliary_loss`), or none."""
        return self.backbone.auxiliary_loss(self.funnel.combine(logits), self.tasks)

    def task_losses(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor | None = None,
        offsets: Mapping[str, float] | None = None,
    ) -> tf.Tensor:
        """Return every task's mean loss over the batch's valid rows, shape `(tasks,)`; 0 where no row is valid.

        Log loss for binary tasks, squared error for regression.

        Args:
            logits: The towers' logits, `(towers, batch)`.
            labels: `(batch, tasks)`.
            weights: Row weights by task, `(batch, tasks)`, 0 where the row is outside a task's sample space;
                none where all are 1.
            offsets: For a task whose negatives were downsampled at rate r, `log r`: the odds on the sampled
                rows are the true odds over r, so its loss is read at `logit - log r`.
        """
        probabilities = self.funnel.combine(logits)
        losses = []
        for column, task in enumerate(self.tasks):
            label = labels[:, column]
            if task.kind == "regression":
                loss = tf.square(logits[self.funnel.towers.index(task.name)] - label)
            else:
                probability = probabilities[task.name]
                if offsets and task.name in offsets:
                    probability = from_logit(probability.logit - offsets[task.name])
                loss = binary_loss(label, probability)
            if weights is None:
                losses.append(tf.reduce_mean(loss))
            else:
                weight = weights[:, column]
                losses.append(tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight)))
        return tf.stack(losses)

    def scores(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return every head's score, float32 `(batch,)`: logits of probabilities, values for regression."""
        heads = {**self.funnel.combine(logits), **self.funnel.conditional(logits)}
        scores = {name: head.logit for name, head in heads.items()}
        for task in self.tasks:
            if task.kind == "regression":
                scores[task.name] = logits[self.funnel.towers.index(task.name)]
        return scores


class Towers(keras.layers.Layer):
    """One network per tower, ending in one unit: block-diagonal, no tower reads another's representation.

    Input shape: `(towers, batch, units)`.
    Output shape: `(towers, batch, 1)`, the logits.
    """

    def __init__(
        self,
        count: int,
        units: Sequence[int],
        activation: str,
        dropout: float,
        batch_normalization: bool,
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype=dtype)
        self.hidden = MLPBank(count, units, activation, dropout, batch_normalization, dtype=dtype)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.hidden.build(input_shape)
        inputs = self.hidden.units[-1] if self.hidden.units else input_shape[-1]
        self.kernel = add_bank_kernel(self, self.hidden.count, inputs, 1, "kernel")
        self.bias = self.add_weight(shape=(self.hidden.count, 1, 1), initializer="zeros", name="bias")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return ops.matmul(self.hidden(x, training=training), self.kernel) + self.bias


def binary_loss(label: tf.Tensor, probability: LogProbability) -> tf.Tensor:
    """Return the log loss of `label`, elementwise."""
    return -(label * probability.log_p + (1.0 - label) * probability.log_not_p)
