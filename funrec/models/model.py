"""The model: embeddings, an interaction, a backbone, one tower per head, a funnel, a loss per task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from funrec.models.backbones.base import Backbone
from funrec.models.fit import check_fit
from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.models.interactions.base import Interaction
from funrec.models.interactions.none import NoInteraction
from funrec.models.layers.embedding import Embedded, FusedEmbedding
from funrec.models.layers.mlp import Towers
from funrec.models.layers.randomness import random_sites
from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.bce import BinaryCrossEntropy
from funrec.models.losses.mse import SquaredError
from funrec.models.structure import Structure, check_groups
from funrec.models.wide.none import NoWide
from funrec.schema import InputLayout, Task
from funrec.utils.specs import Activation, Names, NotNegative, OptionalUnits, Rate

Batch = Mapping[str, Any]


class MultiTaskModel(keras.Model):
    """Embeddings, an interaction, a backbone, one tower per head, a wide part, a funnel, and a loss per task.

    Args:
        backbone: What the tasks share.
        funnel: How their probabilities depend on each other.
        layout: Which features a batch carries.
        tasks: The tasks, in the order of the label columns.
        interaction: How features are crossed before the backbone reads them; not at all if None.
        wide: What is added to the logits beside the network; nothing if None.
        losses: The tasks' losses, in their order; those of their kinds if None.
        groups: Names of tasks that belong together, by the group's name, for backbones that ask for them.
        tower_units: Hidden units of every tower; the output unit comes on top.
        tower_dropout: Dropout rate after every hidden layer of a tower.
        activation: Activation of the towers.
        batch_normalization: Whether towers normalise before their activation.
        embedding_l2: Ridge penalty on embeddings: `embedding_l2 * sum(||w||^2)` beside the sum of all rows'
            losses. Applied to the rows a batch looks up, never to the whole table. See `funrec.models.penalty`.
        precision: `float32`, or `mixed_bfloat16` for matrix products in bfloat16.
    """

    def __init__(
        self,
        backbone: Backbone,
        funnel: Funnel,
        layout: InputLayout,
        tasks: Sequence[Task],
        interaction: Interaction | None = None,
        wide: NoWide | None = None,
        losses: Sequence[Loss] | None = None,
        groups: dict[str, Names] | None = None,
        tower_units: OptionalUnits = (32,),
        tower_dropout: Rate = 0.1,
        activation: Activation = "relu",
        batch_normalization: bool = False,
        embedding_l2: NotNegative = 0.0,
        precision: str = "float32",
    ) -> None:
        super().__init__(dtype=precision)
        self.embedding_l2 = embedding_l2 if backbone.l2 is None else backbone.l2
        self.tasks = tuple(tasks)
        self.layout = layout
        self.criteria = tuple(losses or (BinaryCrossEntropy() if t.is_binary else SquaredError() for t in tasks))
        for task, loss in zip(self.tasks, self.criteria, strict=True):
            loss.configure(task, layout)
            loss.state = {
                name: self._keep(f"{task.name}_{name}", start) for name, start in loss.initial_state().items()
            }
        # Weights are numbered in the order of these assignments; a saved model relies on it.
        self.wide = wide if wide is not None and backbone.has_towers else NoWide()
        self.funnel = funnel
        self.backbone = backbone
        self.interaction = interaction or NoInteraction()
        structure = Structure(
            self.tasks,
            check_groups(groups, tasks),
            num_numeric=len(layout.numeric_features),
            domain=layout.domain,
            num_domains=layout.num_domains,
        )
        # Each part is told what those before it have settled.
        funnel.configure(structure)
        structure = replace(structure, towers=funnel.towers, parents=funnel.tower_parents())
        backbone.configure(structure)
        self.wide.configure(structure)
        copies, dim = backbone.embedding_layout(None)
        outputs = max(loss.outputs for loss in self.criteria)
        check_fit(backbone, funnel, self.interaction, self.criteria)
        self.embedding = FusedEmbedding(
            layout.embedded_features,
            layout.id_features,
            layout.cardinalities,
            copies,
            dim,
            linear_units=self.wide.units,
            limit=backbone.embedding_limit,
            has_weighted_pooling=backbone.has_towers,  # without any, the logits are sums of the embeddings' own
            dtype=self.dtype_policy,
        )
        structure = replace(structure, copies=copies, fields=self.embedding.fields)
        self.backbone.receive_fields(structure)
        self.interaction.configure(structure)
        network = (tower_units, activation, tower_dropout, batch_normalization, outputs)
        self.towers = None
        if backbone.has_towers:
            self.towers = Towers(len(funnel.towers), *network, dtype=self.dtype_policy)

    def _keep(self, name: str, start: np.ndarray) -> keras.Variable:
        """Return a weight that is saved and not trained."""
        weight = self.add_weight(shape=start.shape, initializer="zeros", trainable=False, dtype="float32", name=name)
        weight.assign(start)
        return weight

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
            self.wide.build(None)
            with warnings.catch_warnings():  # of a layer whose weights do not fit in memory, which raises
                warnings.filterwarnings(
                    "ignore", message=r"`build\(\)` was called on layer|Layer '.*' looks like it has unbuilt"
                )
                self(self.layout.empty_batch(rows=2), training=False)
        if rates is not None:
            start = np.zeros(self._bias.shape, np.float32)
            start[:, 0, 0] = self.funnel.initial_logits(rates)
            self._bias.assign(start)

    @property
    def _bias(self) -> keras.Variable:
        """What is added to the towers' outputs, `(towers, 1, outputs)`."""
        return self.backbone.bias if self.towers is None else self.towers.bias

    def fit_losses(self, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Let every loss keep what it needs of the training labels, and say where its tower's outputs start.

        Args:
            samples: By task: labels of training rows in its sample space, `(rows,)`, and their ids, `(rows, features)`.
        """
        start = np.array(self._bias)
        for column, (loss, (labels, ids)) in enumerate(zip(self.criteria, samples, strict=True)):
            state = loss.fit(labels, None if loss.column is None else ids[:, loss.column])
            for name, value in state.items():
                loss.state[name].assign(value)
            outputs = loss.initial_outputs(labels)
            if outputs is not None:
                start[column, 0, : len(outputs)] = outputs
        self._bias.assign(start)

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Return the towers' logits, float32 of shape `(towers, batch)`."""
        embeddings = self.embed(batch)
        x = self.read(embeddings, training)
        return self.head(self.backbone(x, training=training), embeddings.linear, training)

    def read(self, embedded: Embedded, training: bool = False) -> tf.Tensor:
        """Return what the backbone reads of a batch: the crossed features, and its context."""
        x = self.interaction(embedded.x, training=training)
        return x if embedded.context is None else tf.concat([x, embedded.context], axis=-1)

    def embed(self, batch: Batch) -> Embedded:
        """Look the batch up: `x` is `(batch, width)` or `(copies, batch, width)`, `linear` is `(towers, batch)`."""
        x, linear, lookups, _ = self.embedding(batch)
        width = x.shape[-1]
        numeric = batch.get("numeric")
        if numeric is not None:
            numeric = tf.cast(numeric, x.dtype)
            columns = numeric if len(x.shape) == 2 else tf.repeat(numeric[None], x.shape[0], axis=0)
            x = tf.concat([x, columns], axis=-1)
        # Read off `x` itself, so that gradients at `x` are those of the context too.
        context = self._context(x[..., :width], batch)
        return Embedded(x, self.wide.logits(linear, numeric), lookups, context)

    def _context(self, embeddings: tf.Tensor, batch: Batch) -> tf.Tensor | None:
        parts = {}
        if "embeddings" in self.backbone.context:
            parts["embeddings"] = embeddings
        if "domain" in self.backbone.context:
            column = self.layout.id_features.index(self.layout.domain or "")
            parts["domain"] = tf.one_hot(batch["ids"][:, column] - 1, self.layout.num_domains, dtype=embeddings.dtype)
        return tf.concat([parts[part] for part in self.backbone.context], axis=-1) if parts else None

    def head(self, representation: tf.Tensor, linear: tf.Tensor | None, training: bool = False) -> tf.Tensor:
        """Return the logits `(towers, batch)` of what the backbone made of the batch, `(towers, batch, units)`.

        Where a loss asks for several outputs, further rows follow: every tower's second output, its third, and so on.
        """
        outputs = representation if self.towers is None else self.towers(representation, training=training)
        outputs = tf.cast(outputs, tf.float32)
        logits = outputs[:, :, 0] if linear is None else outputs[:, :, 0] + linear
        further = [outputs[:, :, place] for place in range(1, outputs.shape[-1])]
        return tf.concat([logits, *further], axis=0) if further else logits

    @property
    def needs_groups(self) -> bool:
        """Whether a training batch needs `groups`, int32 `(batch,)`."""
        return any(loss.needs_groups for loss in self.criteria)

    @property
    def uncalibrated(self) -> list[str]:
        """Tasks whose scores rank and are no log odds."""
        return [task.name for task, loss in zip(self.tasks, self.criteria, strict=True) if not loss.gives_probabilities]

    def auxiliary_loss(self, logits: tf.Tensor, x: tf.Tensor) -> tf.Tensor | None:
        """Return what the backbone, having read `x`, adds to the tasks' losses (see `Backbone.auxiliary_loss`)."""
        return self.backbone.auxiliary_loss(self.funnel.combine(logits), self.tasks, x)

    def task_losses(self, logits: tf.Tensor, batch: Batch, offsets: Mapping[str, float] | None = None) -> tf.Tensor:
        """Return every task's mean loss over the batch's valid rows, shape `(tasks,)`; 0 where no row is valid.

        Args:
            logits: What `head` returned.
            batch: Its `labels`, `(batch, tasks)`; `weights`, `(batch, tasks)`, 0 where a row is outside a task's sample
                space, absent where all are 1; `groups`, `(batch,)`, where `needs_groups`; and `observed`,
                `(batch, tasks)`, where labels come late.
            offsets: For a task whose negatives were downsampled at rate r, `log r`: the odds on the sampled
                rows are the true odds over r, so its loss is read at `logit - log r`.
        """
        weights, groups = batch.get("weights"), batch.get("groups")
        probabilities = self.funnel.combine(logits)
        extra = self.funnel.extra_losses(logits, probabilities, batch["labels"], weights)
        for name, offset in (offsets or {}).items():
            probabilities[name] = from_logit(probabilities[name].logit - offset)
        losses = []
        for column, (task, loss) in enumerate(zip(self.tasks, self.criteria, strict=True)):
            prediction = self._predict(logits, column, batch, probabilities.get(task.name))
            weight = None if weights is None else weights[:, column]
            own = loss.over_batch(batch["labels"][:, column], prediction, weight, groups)
            losses.append(own + extra[task.name] if task.name in extra else own)
        return tf.stack(losses)

    def _predict(
        self, logits: tf.Tensor, column: int, batch: Batch, probability: LogProbability | None = None
    ) -> Prediction:
        """Return what the tower at a task's place says; it is the task's where none mix."""
        loss = self.criteria[column]
        outputs = logits[column :: len(self.funnel.towers)][: loss.outputs]
        codes = None if loss.column is None else batch["ids"][:, loss.column]
        observed = batch["observed"][:, column] if "observed" in batch else None
        return Prediction(probability or from_logit(outputs[0]), outputs, codes, observed)

    def scores(self, logits: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
        """Return every head's score, float32 `(batch,)`: logits of probabilities, scores that rank, or values."""
        heads = {**self.funnel.combine(logits), **self.funnel.conditional(logits)}
        scores = {name: head.logit for name, head in heads.items()}
        for column, (task, loss) in enumerate(zip(self.tasks, self.criteria, strict=True)):
            if not task.is_binary:
                scores[task.name] = loss.value(self._predict(logits, column, batch))
        return scores
