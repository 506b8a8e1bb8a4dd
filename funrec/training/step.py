"""Many training steps as one graph call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from funrec.models.layers.randomness import RandomSites, random_sites
from funrec.models.model import MultiTaskModel
from funrec.models.penalty import penalty_weights
from funrec.training.shards import auxiliary_loss, logits_of, penalties, run_forward
from funrec.training.task_gradients import SharedGradients
from funrec.training.workers import ALONE, Workers
from funrec.utils.errors import InputError
from funrec.weighting.base import State, Statistics, Weighting

Report = dict[str, tf.Tensor]


class TrainingStep:
    """Forward, backward and update, for as many batches as a block holds.

    The model is initialised, the weighting configured; the optimizer is built here. `offsets` are `log r` of every task
    whose negatives were downsampled at rate r; `shards` is how many parts of a batch run beside each other, `workers`
    are the processes that train this model together.

    Raises:
        InputError: If the weighting compares gradients of what tasks share, and the model shares nothing.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        weighting: Weighting,
        optimizer: keras.optimizers.Optimizer,
        seed: int,
        offsets: Mapping[str, float] | None = None,
        shards: int = 1,
        workers: Workers = ALONE,
    ) -> None:
        self.model = model
        self.weighting = weighting
        self.optimizer = optimizer
        self.seed = seed
        self.offsets = dict(offsets or {})
        self.shards = shards
        self.workers = workers
        self.variables = list(model.trainable_variables)
        self._values = [variable.value for variable in self.variables]
        self.shared_gradients = SharedGradients(model, weighting.shared) if weighting.needs == "gramian" else None
        if workers.count > 1:
            self._check_parts()
        optimizer.build(self.variables)
        self.state = {name: tf.Variable(value, trainable=False) for name, value in weighting.initial_state().items()}
        self.run = tf.function(self._run, reduce_retracing=True)

    def _check_parts(self) -> None:
        """Raise `InputError` if something would have to know of rows that other workers have."""
        if self.shared_gradients and self.shared_gradients.source != "representation":
            raise InputError(
                "weighting.shared should be representation for trainer.workers > 1: elsewhere tasks' gradients are "
                f"sums over all rows before they are compared. Received: {self.shared_gradients.source}."
            )
        if any(loss.column is not None for loss in self.model.criteria):
            raise InputError("trainer.workers should be 1 for a loss that reads a feature, such as d2q.")

    def trace(self, block: Mapping[str, Any]) -> None:
        """Build the graph for blocks like `block`, of any number of steps, so that timing starts after it."""
        specs = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), dict(block))
        specs["sequences"] = {  # as long as the longest of the block
            name: tf.TensorSpec([None, values.shape[1], None], values.dtype)
            for name, values in block["sequences"].items()
        }
        self.run = self.run.get_concrete_function(
            specs,
            tf.TensorSpec([], tf.int64),
        )

    @property
    def fallbacks(self) -> int | None:
        """How many steps so far fell back to even weights; None for a scheme that solves nothing."""
        return int(self.state["fallbacks"]) if "fallbacks" in self.state else None

    def _run(self, block: Mapping[str, Any], first_step: tf.Tensor) -> Report:
        """Take one step per batch.

        Returns:
            By step: `losses` and `weights`, float32 `(steps, tasks)`; `active`, bool likewise, if rows can be masked;
            `gramian`, float32 `(steps, tasks, tasks)`, where the weighting reads it.
        """
        steps, tasks = tf.shape(block["ids"])[0], len(self.model.tasks)
        names = ["losses", "weights", *(["active"] if "weights" in block else [])]
        arrays = {
            name: tf.TensorArray(tf.bool if name == "active" else tf.float32, size=steps, element_shape=(tasks,))
            for name in names
        }
        if self.shared_gradients:
            arrays["gramian"] = tf.TensorArray(tf.float32, size=steps, element_shape=(tasks, tasks))
        for i in tf.range(steps):
            batch = tf.nest.map_structure(lambda x: x[i], block)  # noqa: B023 - used up within the iteration
            report = self._step(batch, first_step + tf.cast(i, tf.int64))
            arrays = {name: array.write(i, report[name]) for name, array in arrays.items()}
        return {name: array.stack() for name, array in arrays.items()}

    @tf.autograph.experimental.do_not_convert
    def _step(self, batch: Mapping[str, Any], step: tf.Tensor) -> Report:
        row_weights = batch.get("weights")
        active = None if row_weights is None else tf.reduce_any(row_weights > 0, axis=0)
        state = {name: tf.convert_to_tensor(value) for name, value in self.state.items()}
        with random_sites(self.seed, step) as sites:
            if self.shared_gradients is None:
                gradients, state, report = self._descend_by_losses(batch, state, active, sites)
            else:
                gradients, state, report = self._descend_by_gramian(self.shared_gradients, batch, state, active, sites)
        self.optimizer.apply(self.workers.sum(gradients), self.variables)
        if self.weighting.reads_losses_after:
            with random_sites(self.seed, step):  # the same keys as before the update: the same dropout
                logits = logits_of(run_forward(self.model, batch, self.shards, self.workers), self.workers)
                losses = self.model.task_losses(logits, batch, self.offsets)
                state = self.weighting.after_step(losses, state, active)
        for name, value in state.items():
            self.state[name].assign(value)
        return report

    def _descend_by_losses(
        self, batch: Mapping[str, Any], state: State, active: tf.Tensor | None, sites: RandomSites
    ) -> tuple[list[Any], State, Report]:
        """Return the gradient by variable, the weighting's state, and what to report."""
        model = self.model
        with tf.GradientTape() as tape:
            shards = run_forward(model, batch, self.shards, self.workers)
            logits = logits_of(shards, self.workers)
            losses = model.task_losses(logits, batch, self.offsets)
            known = Statistics(tf.stop_gradient(losses), sites.next_key(), active=active)
            weights, state = self.weighting.weights(known, state)
            report = _report(losses, weights, active)
            weights = tf.stop_gradient(report["weights"])
            total = tf.tensordot(weights, losses, 1)
            ridge = penalties(model, shards, batch["labels"].shape[0])
            auxiliary = auxiliary_loss(model, shards, logits, self.workers)
            if ridge is not None:
                total += tf.tensordot(penalty_weights(model, weights), ridge, 1)
            if auxiliary is not None:
                total += auxiliary
        gradients = tape.gradient(total, self._values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradients, state, report

    def _descend_by_gramian(
        self,
        shared: SharedGradients,
        batch: Mapping[str, Any],
        state: State,
        active: tf.Tensor | None,
        sites: RandomSites,
    ) -> tuple[list[Any], State, Report]:
        """Return the gradient by variable, the weighting's state, and what to report."""
        forward = shared.run_forward(batch, self.offsets, self.shards, self.workers)
        pulled = shared.pull(forward)
        pulled = pulled._replace(gramian=self.workers.sum([pulled.gramian])[0])
        known = Statistics(forward.losses, sites.next_key(), pulled.gramian, active)
        weights, state = self.weighting.weights(known, state)
        report = _report(forward.losses, weights, active) | {"gramian": pulled.gramian}
        own = self.weighting.own_weights(report["weights"], forward.losses)
        return shared.combine(forward, pulled, report["weights"], own), state, report

    def end_epoch(self, mean_losses: Any) -> None:
        """Let the weighting see the epoch's mean task losses, `(tasks,)`."""
        state = {name: tf.convert_to_tensor(value) for name, value in self.state.items()}
        for name, value in self.weighting.end_epoch(tf.constant(mean_losses, tf.float32), state).items():
            self.state[name].assign(value)


def _report(losses: tf.Tensor, weights: tf.Tensor, active: tf.Tensor | None) -> Report:
    if active is None:
        return {"losses": losses, "weights": weights}
    return {"losses": losses, "weights": tf.where(active, weights, 0.0), "active": active}
