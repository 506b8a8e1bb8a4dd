"""Many training steps as one graph call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from funrec.layers.randomness import random_sites
from funrec.models.model import MultiTaskModel
from funrec.weighting.base import Weighting


class TrainingStep:
    """Forward, backward and update, for as many batches as a block holds.

    Args:
        model: An initialised model.
        weighting: A configured weighting.
        optimizer: Built here, on the model's trainable variables.
        seed: The run's seed.
        offsets: `log r` of every task whose negatives were downsampled at rate r.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        weighting: Weighting,
        optimizer: keras.optimizers.Optimizer,
        seed: int,
        offsets: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.weighting = weighting
        self.optimizer = optimizer
        self.seed = seed
        self.offsets = dict(offsets or {})
        self.variables = list(model.trainable_variables)
        self._values = [variable.value for variable in self.variables]
        optimizer.build(self.variables)
        self.state = {name: tf.Variable(value, trainable=False) for name, value in weighting.initial_state().items()}
        self.run = tf.function(self._run, reduce_retracing=True)

    def trace(self, block: Mapping[str, Any]) -> None:
        """Build the graph for blocks like `block`, of any number of steps, so that timing starts after it."""
        self.run = self.run.get_concrete_function(
            tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), dict(block)),
            tf.TensorSpec([], tf.int64),
        )

    def _run(self, block: Mapping[str, Any], first_step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Take one step per batch; return the task losses and the weights, each `(steps, tasks)`."""
        steps = tf.shape(block["ids"])[0]
        tasks = len(self.model.tasks)
        losses = tf.TensorArray(tf.float32, size=steps, element_shape=(tasks,))
        weights = tf.TensorArray(tf.float32, size=steps, element_shape=(tasks,))
        for i in tf.range(steps):
            batch = tf.nest.map_structure(lambda x: x[i], block)  # noqa: B023 - used up within the iteration
            loss, weight = self._step(batch, first_step + tf.cast(i, tf.int64))
            losses = losses.write(i, loss)
            weights = weights.write(i, weight)
        return losses.stack(), weights.stack()

    @tf.autograph.experimental.do_not_convert
    def _step(self, batch: Mapping[str, Any], step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        model = self.model
        with random_sites(self.seed, step) as sites:
            with tf.GradientTape() as tape:
                embedded = model.embed(batch)
                representation = model.backbone(embedded.x, training=True)
                logits = model.head(representation, embedded.linear, training=True)
                losses = model.task_losses(logits, batch["labels"], batch.get("weights"), self.offsets)
                state = {name: tf.convert_to_tensor(value) for name, value in self.state.items()}
                weights, state = self.weighting.weights(tf.stop_gradient(losses), None, state, sites.next_key())
                total = tf.tensordot(tf.stop_gradient(weights), losses, 1)
                penalty = model.penalty(embedded, batch["ids"].shape[0])
                if penalty is not None:
                    total += penalty
        gradients = tape.gradient(total, self._values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.optimizer.apply(gradients, self.variables)
        for name, value in state.items():
            self.state[name].assign(value)
        return losses, weights

    def end_epoch(self, mean_losses: Any) -> None:
        """Let the weighting see the epoch's mean task losses, `(tasks,)`."""
        state = {name: tf.convert_to_tensor(value) for name, value in self.state.items()}
        for name, value in self.weighting.end_epoch(tf.constant(mean_losses, tf.float32), state).items():
            self.state[name].assign(value)
