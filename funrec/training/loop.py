"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from funrec.errors import InputError, did_you_mean
from funrec.models.checks import check_positive, check_rate
from funrec.models.model import MultiTaskModel
from funrec.training.averaging import WeightAverage
from funrec.training.batches import BatchStream, Rows
from funrec.training.checkpoint import load_weights, save_weights
from funrec.training.history import EpochTotals
from funrec.training.progress import TrainingProgress
from funrec.training.scoring import ScoreNotANumber
from funrec.training.step import TrainingStep
from funrec.weighting.base import Weighting

#: How a learning rate falls: a Keras schedule of the first rate, the number of steps, and the share left at the end.
SCHEDULES: dict[str, Callable[[float, int, float], keras.optimizers.schedules.LearningRateSchedule]] = {
    "linear": lambda rate, steps, end: keras.optimizers.schedules.PolynomialDecay(rate, steps, rate * end),
    "cosine": lambda rate, steps, end: keras.optimizers.schedules.CosineDecay(rate, steps, end),
}


class TrainingDiverged(InputError):
    """A loss turned NaN or infinite."""


@dataclass
class TrainingResult:
    """What training did.

    Attributes:
        history: A row per epoch: losses, weights, metrics, seconds, rows per second.
        best_epoch: The epoch (counted from 1) whose weights the model ended with.
        seconds: Time in training steps, tracing and validation aside.
        rows_per_second: Rows trained on per second of that time.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0

    @property
    def weighting_fallbacks(self) -> int | None:
        """Steps whose weights were even for want of a solution; none for a weighting that solves nothing."""
        counts = [row["weighting_fallbacks"] for row in self.history if "weighting_fallbacks" in row]
        return sum(counts) if counts else None


class Trainer:
    """How a model is trained.

    Args:
        epochs: Most passes over the training split.
        batch_size: Rows per step.
        monitor: The validation metric that decides which epoch is kept; none keeps the last.
        monitor_mode: `max` or `min`: which way the metric is better.
        patience: Epochs without a better metric before training stops early; none never stops early.
        learning_rate_decay: `linear` or `cosine`: how the learning rate falls over `epochs`; none keeps it.
        final_learning_rate: Where it ends, as a share of where it begins.
        average_steps: Average the weights over this many of an epoch's last steps before validation; 0 does not.
        average_snapshots: How many snapshots that average takes.
        steps_per_call: Steps in one call of the graph.
        eval_batch_size: Rows per batch when scoring.
        precision: `float32`, or `mixed_bfloat16` for matrix products in bfloat16.

    Raises:
        InputError: If one of them is not what it should be.
    """

    def __init__(
        self,
        epochs: int = 5,
        batch_size: int = 1024,
        monitor: str | None = "auc_macro",
        monitor_mode: str = "max",
        patience: int | None = 2,
        learning_rate_decay: str | None = None,
        final_learning_rate: float = 0.0,
        average_steps: int = 0,
        average_snapshots: int = 10,
        steps_per_call: int = 100,
        eval_batch_size: int = 8192,
        precision: str = "float32",
    ) -> None:
        self.epochs = check_positive("trainer.epochs", epochs)
        self.batch_size = check_positive("trainer.batch_size", batch_size)
        self.monitor = monitor
        self.monitor_mode = _check_choice("trainer.monitor_mode", monitor_mode, ("max", "min"))
        self.patience = None if patience is None else check_positive("trainer.patience", patience)
        if learning_rate_decay is not None:
            _check_choice("trainer.learning_rate_decay", learning_rate_decay, tuple(SCHEDULES))
        self.learning_rate_decay = learning_rate_decay
        self.final_learning_rate = check_rate("trainer.final_learning_rate", final_learning_rate)
        self.average_steps = 0 if average_steps == 0 else check_positive("trainer.average_steps", average_steps)
        self.average_snapshots = check_positive("trainer.average_snapshots", average_snapshots)
        self.steps_per_call = check_positive("trainer.steps_per_call", steps_per_call)
        self.eval_batch_size = check_positive("trainer.eval_batch_size", eval_batch_size)
        self.precision = _check_choice("trainer.precision", precision, ("float32", "mixed_bfloat16"))

    def fit(
        self,
        model: MultiTaskModel,
        rows: Rows,
        weighting: Weighting,
        optimizer: keras.optimizers.Optimizer,
        validate: Callable[[], Mapping[str, float]],
        folder: Path,
        seed: int,
        offsets: Mapping[str, float] | None = None,
        live: bool = False,
    ) -> TrainingResult:
        """Train `model` in place; it ends with the weights of its best epoch.

        Args:
            model: An initialised model.
            rows: The training split.
            weighting: A configured weighting.
            optimizer: A fresh Keras optimizer.
            validate: Computes the validation metrics of the model as it is.
            folder: Where the best epoch's weights are kept.
            seed: The run's seed.
            offsets: `log r` of every task whose negatives were downsampled at rate r.
            live: Whether to draw progress on the terminal.

        Raises:
            TrainingDiverged: If a loss turns NaN or infinite; names the task, the step and the last good epoch.
            InputError: If `monitor` is no metric of the validation split.
        """
        stream = BatchStream(rows, model.layout, self.batch_size, seed)
        if self.learning_rate_decay is not None:
            schedule = SCHEDULES[self.learning_rate_decay]
            optimizer.learning_rate = schedule(
                float(optimizer.learning_rate), stream.steps_until(self.epochs), self.final_learning_rate
            )
        step = TrainingStep(model, weighting, optimizer, seed, offsets)
        step.trace(stream.block(0, 1))
        average = WeightAverage(model.weights, self.average_steps, self.average_snapshots)
        result = TrainingResult()
        best = -np.inf
        names = [task.name for task in model.tasks]
        with TrainingProgress(names, stream.steps_until(self.epochs), live) as progress:
            for epoch in range(self.epochs):
                totals = self._train_epoch(epoch, stream, step, average, progress, result)
                if self.average_steps:
                    average.apply()
                try:
                    metrics = dict(validate())
                except ScoreNotANumber as error:
                    last_step = stream.steps_until(epoch + 1)
                    raise _diverged(f"score of {error.head}", np.nan, last_step, result.best_epoch) from error
                row = totals.row(epoch, stream.batch_size, metrics)
                result.history.append(row)
                score = self._read_monitor(metrics)
                if score > best or self.monitor is None:
                    best, result.best_epoch = score, epoch + 1
                    save_weights(model, folder)
                progress.end_epoch(row, self.monitor or "auc_macro")
                if self.average_steps:
                    average.restore()
                step.end_epoch(totals.losses)
                if self.patience is not None and epoch + 1 - result.best_epoch >= self.patience:
                    progress.say(f"No better {self.monitor} for {self.patience} epochs: stopping early.")
                    break
        if not result.best_epoch:
            raise InputError(f"trainer.monitor: {self.monitor} was never a number. Choose another metric.")
        load_weights(model, folder)
        trained = sum(row["steps"] for row in result.history) * stream.batch_size
        result.rows_per_second = trained / max(result.seconds, 1e-9)
        return result

    def _train_epoch(
        self,
        epoch: int,
        stream: BatchStream,
        step: TrainingStep,
        average: WeightAverage,
        progress: TrainingProgress,
        result: TrainingResult,
    ) -> EpochTotals:
        first, last = stream.steps_until(epoch), stream.steps_until(epoch + 1)
        stops = average.snapshot_steps(first, last) if self.average_steps else []
        totals = EpochTotals(task.name for task in step.model.tasks)
        fallbacks_before = step.fallbacks or 0
        for start, stop, block in _prefetch(stream, _cut(first, last, self.steps_per_call, stops)):
            clock = time.perf_counter()
            report = {name: values.numpy() for name, values in step.run(block, tf.constant(start, tf.int64)).items()}
            seconds = time.perf_counter() - clock
            _check_finite(report["losses"], totals.tasks, start, result.best_epoch)
            totals.add(report, seconds)
            result.seconds += seconds
            if stop in stops:
                average.take_snapshot()
            rate = (stop - start) * stream.batch_size / seconds
            progress.advance(epoch, stop - start, rate, report["losses"].mean(0), report["weights"].mean(0))
        if step.fallbacks is not None:
            totals.fallbacks = step.fallbacks - fallbacks_before
            if totals.fallbacks:
                solved = totals.steps - totals.fallbacks
                progress.say(f"The weighting found weights in {solved} of {totals.steps} steps; the others' were even.")
        return totals

    def check_monitor(self, metrics: Collection[str]) -> None:
        """Check that `monitor` is among `metrics`, or that the last epoch is kept whatever they say.

        Raises:
            InputError: If it is not.
        """
        if self.monitor is not None and self.monitor not in metrics:
            raise InputError(
                f"trainer.monitor should be a metric of the validation split. Received: {self.monitor}."
                + did_you_mean(self.monitor, metrics)
            )

    def _read_monitor(self, metrics: Mapping[str, float]) -> float:
        if self.monitor is None:
            return 0.0
        self.check_monitor(metrics)
        score = float(metrics[self.monitor])
        return score if self.monitor_mode == "max" else -score


def _cut(first: int, last: int, steps_per_call: int, stops: list[int]) -> list[tuple[int, int]]:
    """Cut an epoch's steps into blocks of at most `steps_per_call` that end at every one of `stops`."""
    edges = sorted({*range(first, last, steps_per_call), *(stop for stop in stops if first < stop), last})
    return list(pairwise(edges))


def _prefetch(stream: BatchStream, blocks: list[tuple[int, int]]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Gather the next block's rows while the present one trains."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="funrec-batches") as pool:
        pending = [pool.submit(stream.block, start, stop - start) for start, stop in blocks[:1]]
        for i, (start, stop) in enumerate(blocks):
            block = pending.pop().result()
            if i + 1 < len(blocks):
                following, until = blocks[i + 1]
                pending.append(pool.submit(stream.block, following, until - following))
            yield start, stop, block


def _check_finite(losses: np.ndarray, tasks: list[str], first_step: int, best_epoch: int) -> None:
    bad = ~np.isfinite(losses)
    if bad.any():
        step, task = np.argwhere(bad)[0]
        raise _diverged(f"loss of {tasks[task]}", losses[step, task], first_step + step + 1, best_epoch)


def _diverged(what: str, value: float, step: int, best_epoch: int) -> TrainingDiverged:
    last_good = f"The last good epoch is {best_epoch}" if best_epoch else "No epoch was finished before"
    return TrainingDiverged(
        f"The {what} should stay finite. It turned {value} at step {step}. {last_good}. "
        "Lower optimizer.learning_rate or check the labels."
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InputError(f"{name} should be one of {', '.join(choices)}. Received: {value}.")
    return value
