"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from funrec.models.model import MultiTaskModel
from funrec.training.batches import ALL, BatchStream, Rows, cut_epoch, read_ahead
from funrec.training.callbacks import Callbacks
from funrec.training.checkpoints import CheckpointFile, Checkpoints, load_weights
from funrec.training.optimizers import SCHEDULES, WeightAverage
from funrec.training.progress import EpochTotals, TrainingProgress
from funrec.training.scoring import ScoreNotANumber
from funrec.training.shards import count_shards
from funrec.training.state import Session, TrainingDiverged, TrainingState, check_finite, copy_to_host
from funrec.training.step import TrainingStep
from funrec.training.workers import ALONE, Workers
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.signals import Interruption
from funrec.utils.specs import PositiveInt, PositiveNumber, Rate, WholeNumber
from funrec.weighting.base import Weighting

Metrics = Mapping[str, float]
#: Told of every epoch: its row of the history.
EpochHook = Callable[[Mapping[str, Any]], None]


@dataclass(eq=False)
class Trainer:
    """How a model is trained.

    Args:
        epochs: Most passes over the training split.
        batch_size: Rows per step.
        batch_by: `row` shuffles rows, `group` keeps the rows of a group (user) together; null for `group` where a loss
            compares the rows of a group, else `row`.
        monitor: The validation metric that decides which epoch is kept; null keeps the last.
        monitor_mode: `max` or `min`: which way the metric is better. Null is `max` here; a run takes the metric's own
            direction.
        patience: Epochs without a better metric before training stops early; null never stops early.
        learning_rate_decay: `linear` or `cosine`: how the learning rate falls over `epochs`; null keeps it constant.
        final_learning_rate: Where it ends, as a fraction of its start.
        average_steps: Average the weights over this many of an epoch's last steps before validation; 0 does not.
        average_snapshots: How many snapshots that average takes.
        steps_per_call: Steps in one call of the graph.
        shards: Parts of a batch that run beside each other, each with its share of the cores. Tables depend on it and
            not on the cores; more than 2 pay on more than two cores. Networks with batch normalisation, which takes
            the whole batch, have one.
        eval_batch_size: Rows per batch when scoring.
        workers: Processes that train together on this machine, each a part of every batch. They divide the cores;
            tables depend on their number.
        precision: `float32`, or `mixed_bfloat16` for matrix products in bfloat16.
        checkpoint_minutes: Minutes between checkpoints within an epoch; null writes them only at the end of epochs.
        keep: What stays of a finished run's weights: `best` (the best epoch's), `all` (the last checkpoint too) or
            `none`, which leaves nothing to score rows with.
        start_from: The folder of a finished run whose weights are the start: embeddings of the ids that it knows, heads
            of the same names, and the rest where names and shapes agree.
        callbacks: Keras callbacks by a name of your own, each `_target_` and arguments. They are called at the start,
            after every epoch with its row of the history, and at the end, and see neither batches nor the optimizer.
    """

    epochs: PositiveInt = 5
    batch_size: PositiveInt = 1024
    batch_by: Literal["row", "group"] | None = None
    monitor: str | None = "auc_macro"
    monitor_mode: Literal["max", "min"] | None = None
    patience: PositiveInt | None = 2
    learning_rate_decay: Literal["linear", "cosine"] | None = None
    final_learning_rate: Rate = 0.0
    average_steps: WholeNumber = 0
    average_snapshots: PositiveInt = 10
    steps_per_call: PositiveInt = 100
    shards: PositiveInt = 2
    workers: PositiveInt = 1
    eval_batch_size: PositiveInt = 8192
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    checkpoint_minutes: PositiveNumber | None = 5.0
    keep: Literal["best", "all", "none"] = "best"
    start_from: str | None = None
    callbacks: dict[str, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self._callbacks = Callbacks(self.callbacks or {})

    def fit(
        self,
        model: MultiTaskModel,
        rows: Rows,
        weighting: Weighting,
        optimizer: keras.optimizers.Optimizer,
        validate: Callable[[], Metrics],
        folder: Path,
        seed: int,
        offsets: Mapping[str, float] | None = None,
        live: bool = False,
        on_epoch: EpochHook = lambda row: None,
        checkpoint: CheckpointFile | None = None,
        interruption: Interruption | None = None,
        workers: Workers = ALONE,
    ) -> TrainingState:
        """Train `model` in place; it ends with the weights of its best epoch.

        Args:
            model: An initialised model.
            rows: The training split.
            weighting: A configured weighting.
            optimizer: A fresh one.
            validate: Computes the validation metrics of the model as it is.
            folder: Where the best epoch's weights are kept.
            seed: The run's seed.
            offsets: `log r` of every task whose negatives were downsampled at rate r.
            live: Whether to draw progress on the terminal.
            on_epoch: Told of every epoch, and first of those that a checkpoint has behind it.
            checkpoint: The checkpoint file, resumed from if it exists; None writes none.
            interruption: Read after every block: whether to stop.
            workers: The processes that train this model together. The first one validates and writes; others end
                with whatever weights they have.

        Raises:
            KeyboardInterrupt: When asked to stop, after writing a checkpoint.
            TrainingDiverged: If a loss turns NaN or infinite; names the task, the step and the last good epoch.
            InputError: If `monitor` is no metric of the validation split, or never a number.
        """
        by_group = self.batch_by == "group" or (self.batch_by is None and model.needs_groups)
        check_group(rows.groups is not None, model.needs_groups, by_group)
        part = workers.part(min(self.batch_size, len(rows))) if workers.count > 1 else ALL
        stream = BatchStream(rows, model.layout, self.batch_size, seed, model.needs_groups, by_group, part)
        if model.needs_groups:
            stream.check_groups()
        steps = stream.steps_until(self.epochs)
        if self.learning_rate_decay is not None:
            schedule = SCHEDULES[self.learning_rate_decay]
            optimizer.learning_rate = schedule(float(optimizer.learning_rate), steps, self.final_learning_rate)
        shards = count_shards(model, self.shards, stream.batch_size, workers)
        step = TrainingStep(model, weighting, optimizer, seed, offsets, shards, workers)
        step.trace(stream.block(0, 1))
        tasks = [task.name for task in model.tasks]
        average = WeightAverage(model.weights, self.average_steps, self.average_snapshots)
        session = Session(step, average, TrainingState(self.epochs, steps, EpochTotals(tasks)))
        with (
            Checkpoints(checkpoint, folder, self.checkpoint_minutes, is_writing=workers.index == 0) as checkpoints,
            TrainingProgress(tasks, steps, live) as progress,
            self._callbacks.running(model, self.epochs),
        ):
            checkpoints.restore(session)
            workers.check_agreement({"checkpoint": str(session.state.step)})
            progress.skip(session.state.step)
            for row in session.state.history:
                self._callbacks.end_epoch(row)
                on_epoch(row)
            while not (self._is_over(session.state) or self._callbacks.wants_to_stop):
                for _ in self._train_epoch(session, stream, progress):
                    _stop_if_asked(interruption, session, checkpoints, progress)
                    checkpoints.save_if_due(session)
                row = self._end_epoch(session, stream.batch_size, validate, checkpoints)
                progress.end_epoch(row, self.monitor or "auc_macro")
                _stop_if_asked(interruption, session, checkpoints, progress)
                self._callbacks.end_epoch(row)
                on_epoch(row)
            if self._callbacks.wants_to_stop:
                progress.say("A callback of trainer.callbacks stopped the training.")
            elif session.state.epoch < self.epochs:
                progress.say(f"No better {self.monitor} for {self.patience} epochs: stopping early.")
        if not session.state.best_epoch:
            raise InputError(f"trainer.monitor: {self.monitor} was never a number. Choose another metric.")
        if workers.index == 0:
            load_weights(model, folder, session.state.best_epoch)
        return session.state

    def _train_epoch(self, session: Session, stream: BatchStream, progress: TrainingProgress) -> Iterator[None]:
        """Train the blocks that are left of the epoch, with a pause after each."""
        step, state = session.step, session.state
        first, last = stream.steps_until(state.epoch), stream.steps_until(state.epoch + 1)
        snapshots = session.average.snapshot_steps(first, last) if self.average_steps else []
        blocks = cut_epoch(first, last, self.steps_per_call, snapshots, done=state.step)
        for start, stop, block in read_ahead(stream, blocks):
            clock = time.perf_counter()
            report = {name: values.numpy() for name, values in step.run(block, tf.constant(start, tf.int64)).items()}
            seconds = time.perf_counter() - clock
            check_finite(report["losses"], state.totals.tasks, start, state.best_epoch)
            state.totals.add(report, seconds)
            state.step = stop
            if stop in snapshots:
                session.average.take_snapshot()
            rate = (stop - start) * stream.batch_size / seconds
            progress.advance(state.epoch, stop - start, rate, report["losses"].mean(0), report["weights"].mean(0))
            yield
        if step.fallbacks is not None:
            state.totals.fallbacks = step.fallbacks - (state.weighting_fallbacks or 0)
            if state.totals.fallbacks:
                solved, steps = state.totals.steps - state.totals.fallbacks, state.totals.steps
                progress.say(f"The weighting found weights in {solved} of {steps} steps; the others used even weights.")

    def _end_epoch(
        self, session: Session, batch_size: int, validate: Callable[[], Metrics], checkpoints: Checkpoints
    ) -> dict[str, Any]:
        """Validate, enter the epoch into the history and write down what it leaves; return its row."""
        state, losses = session.state, session.state.totals.losses
        if self.average_steps:
            session.average.apply()
        workers = session.step.workers
        try:
            metrics = dict(validate()) if workers.index == 0 else {}
            score = workers.tell(self._read_monitor(metrics) if workers.index == 0 else 0.0)
        except ScoreNotANumber as error:
            raise TrainingDiverged(f"score of {error.head}", np.nan, state.step, state.best_epoch) from error
        row = state.totals.row(state.epoch, batch_size, metrics)
        is_best = state.finish_epoch(row, score, is_always_best=self.monitor is None)
        best = copy_to_host(session.step.model.weights) if is_best else None
        if self.average_steps:
            session.average.restore()
        session.step.end_epoch(losses)
        is_last = self._is_over(state)
        checkpoints.save_epoch(session, best, is_last, is_wanted=is_last and self.keep == "all")
        return row

    def _is_over(self, state: TrainingState) -> bool:
        has_stalled = self.patience is not None and state.epoch - state.best_epoch >= self.patience
        return state.epoch >= self.epochs or has_stalled

    def check_monitor(self, metrics: Collection[str]) -> None:
        """Raise `InputError` if `monitor` is not among `metrics`, unless the last epoch is kept whatever they say."""
        if self.monitor is not None and self.monitor not in metrics:
            raise InputError(
                f"trainer.monitor should be a metric of the validation split. Received: {self.monitor}."
                + did_you_mean(self.monitor, metrics)
            )

    def _read_monitor(self, metrics: Metrics) -> float:
        if self.monitor is None:
            return 0.0
        self.check_monitor(metrics)
        score = float(metrics[self.monitor])
        return -score if self.monitor_mode == "min" else score


def check_group(has_groups: bool, is_compared: bool, by_group: bool) -> None:
    """Raise `InputError` if there are no groups where a loss or the batches need them."""
    if not has_groups and (is_compared or by_group):
        why = "a task's loss compares the rows of a group" if is_compared else "trainer.batch_by is group"
        raise InputError(f"dataset.group should name a column: {why}. Received: none.")


def _stop_if_asked(
    interruption: Interruption | None, session: Session, checkpoints: Checkpoints, progress: TrainingProgress
) -> None:
    if interruption is not None and interruption.is_requested:
        progress.say("Stopping here: writing a checkpoint first. Ctrl-C again stops at once.")
        checkpoints.save_now(session)
        raise KeyboardInterrupt
