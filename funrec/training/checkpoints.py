"""Weights and checkpoints on disk: written whole or not at all, in the background, at a bounded cost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from funrec.models.model import MultiTaskModel
from funrec.training.state import Session, TrainingState
from funrec.utils.errors import InputError
from funrec.utils.files import Cancelled, Damaged, read_arrays, read_notes, write_arrays

log = logging.getLogger("funrec")

# NumPy's format rather than HDF5, whose library crashes the process when the disk fills up.
WEIGHTS = "weights.npz"
EPOCH = "epoch"

#: The largest share of the time since the last checkpoint that one may cost.
LARGEST_SHARE = 0.03
#: A checkpoint up to this size, which costs a few hundredths of a second, is written at the end of every epoch.
SMALL_BYTES = 1 << 25
#: What the first one is taken to cost, before there is one to measure: beside training, and when training is over.
BYTES_PER_SECOND, BYTES_PER_SECOND_AT_THE_END = 1e9, 2e8

_STARTS_OVER = "Training starts over from the first epoch."

#: Asked now and then whether what is being written is still wanted.
IsCancelled = Callable[[], bool]


def write_weights(
    weights: Sequence[np.ndarray], folder: Path, epoch: int = 0, is_cancelled: IsCancelled = lambda: False
) -> None:
    """Write copies of a model's weights into `folder`, in place of those that are there.

    Args:
        weights: In the model's order.
        folder: Made where it is missing.
        epoch: The epoch they were trained for, counted from 1.
        is_cancelled: See `funrec.utils.files.write_arrays`.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created: {error.strerror}. Choose another output folder.") from error
    arrays = {str(place): array for place, array in enumerate(weights)} | {EPOCH: np.asarray(epoch)}
    write_arrays(folder / WEIGHTS, arrays, is_cancelled=is_cancelled)


def load_weights(model: MultiTaskModel, folder: Path, epoch: int | None = None) -> None:
    """Read the weights in `folder` into an initialised model of the same configuration.

    Raises:
        InputError: If there are none, they are damaged, another model's or of another epoch than `epoch`, if one is
            given.
    """
    path = folder / WEIGHTS
    try:
        arrays = read_arrays(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path}: no such file. A run that is to score rows later needs trainer.keep=best (or all). Run it again."
        ) from None
    found = int(arrays.pop(EPOCH, np.asarray(0)))
    weights = [arrays.get(str(place)) for place in range(len(arrays))]
    shapes = [tuple(variable.shape) for variable in model.weights]
    if [None if array is None else array.shape for array in weights] != shapes:
        raise InputError(f"{path} should hold the weights of this model. Received: another model's.")
    if epoch is not None and found != epoch:
        raise InputError(f"{path} should hold the weights of epoch {epoch}. Received: epoch {found}. Run it again.")
    for variable, array in zip(model.weights, weights, strict=True):
        variable.assign(array)


def weights_epoch(folder: Path) -> int | None:
    """Return the epoch of the weights in `folder`; None if they are missing or damaged."""
    try:
        return int(read_arrays(folder / WEIGHTS)[EPOCH])
    except (FileNotFoundError, NotADirectoryError, KeyError, InputError):
        return None


@dataclass(frozen=True)
class CheckpointFile:
    """Where a checkpoint is, and what a training resumed from it should have in common with it (`runs.provenance`)."""

    path: Path
    origin: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """Writes checkpoints during training and restores from them: `with Checkpoints(...) as checkpoints: ...`.

    At the end of a block the state is copied, and a thread writes the copy to disk, so training waits for the copying
    alone. A checkpoint that would cost more than 3% of the time since the last one is put off: a model of gigabytes is
    written now and then, a small one after every epoch.

    Errors of the writing thread, such as a full disk, are raised by the next call.

    Args:
        file: Where to; None writes no checkpoints.
        folder: Where the best epoch's weights go, which are always written.
        minutes: Minutes between checkpoints within an epoch; None writes them at the end of epochs alone.
        is_writing: Whether this process writes, and does not only restore.
    """

    def __init__(
        self, file: CheckpointFile | None, folder: Path, minutes: float | None = None, is_writing: bool = True
    ) -> None:
        self.file = file
        self.folder = folder
        self.minutes = minutes
        self.is_writing = is_writing
        self._writer = BackgroundWriter()
        self._last = time.monotonic()
        self._seconds_of_copying: float | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if kind is None:
            self._writer.wait()
        elif issubclass(kind, Exception):
            with suppress(Exception):  # the first error is the one to tell of
                self._writer.wait()
        else:
            self._writer.cancel()

    def restore(self, session: Session) -> None:
        """Restore the training from the file; leave it as it is if there is none, or it is damaged.

        Raises `InputError` if the checkpoint is another model's.
        """
        if self.file is None or not self.file.path.exists():
            return
        try:
            notes, arrays = read_notes(self.file.path), read_arrays(self.file.path)
            state = TrainingState.from_plain(notes["state"])
        except (Damaged, KeyError, TypeError) as error:
            problem = error.problem if isinstance(error, Damaged) else f"{self.file.path} has another version's form."
            log.warning("%s %s", problem, _STARTS_OVER)
            return
        # Newer weights than the checkpoint's are fine: the process died between writing the two, and training the epoch
        # again gives the same weights.
        found = weights_epoch(self.folder)
        if state.best_epoch and (found is None or state.best_epoch != found <= state.epoch):
            log.warning("%s should hold the weights of epoch %d. %s", self.folder, state.best_epoch, _STARTS_OVER)
            return
        session.restore(arrays, state)
        state.resumed_at.append(state.step)
        self._last = time.monotonic()
        log.info("Training resumes from its checkpoint, %s.", notes["position"])

    def save_if_due(self, session: Session) -> None:
        """Write a checkpoint within an epoch if it is due."""
        self._writer.check()
        if self.minutes is None or self._writer.is_busy or time.monotonic() - self._last < 60 * self.minutes:
            return
        if self._is_affordable(session):
            self._save(session)

    def save_epoch(
        self, session: Session, best: Sequence[np.ndarray] | None, is_last: bool = False, is_wanted: bool = False
    ) -> None:
        """Write the best weights and a checkpoint at the end of an epoch.

        `best` are copies of the weights that were validated, if no epoch was better. If the epoch `is_last`, writing
        delays the result in full; if it `is_wanted`, a checkpoint is written at any cost.
        """
        self._writer.check()
        self._save(session, best, is_wanted or session.size <= SMALL_BYTES or self._is_affordable(session, is_last))

    def save_now(self, session: Session) -> None:
        """Write a checkpoint, and wait until it is there."""
        self._save(session)
        self.wait()

    def wait(self) -> None:
        """Wait until everything is there."""
        self._writer.wait()

    def _save(self, session: Session, best: Sequence[np.ndarray] | None = None, has_checkpoint: bool = True) -> None:
        self._writer.wait()
        if not self.is_writing:
            return
        file, folder, epoch = self.file, self.folder, session.state.epoch
        arrays, notes = {}, {}
        if has_checkpoint and file is not None:
            clock = time.monotonic()
            arrays = session.arrays(None if session.average.steps else best)
            state = session.state
            notes = {"origin": file.origin, "position": state.position(), "state": state.to_plain()}
            self._last = time.monotonic()
            self._seconds_of_copying = self._last - clock

        def write(is_cancelled: IsCancelled) -> None:
            # In this order: a checkpoint never speaks of weights that are not there yet.
            if best is not None:
                write_weights(best, folder, epoch, is_cancelled)
            if arrays and file is not None:
                write_arrays(file.path, arrays, notes, is_cancelled)

        self._writer.start(write)

    def _is_affordable(self, session: Session, is_last: bool = False) -> bool:
        if self._seconds_of_copying is None:
            cost = session.size / (BYTES_PER_SECOND_AT_THE_END if is_last else BYTES_PER_SECOND)
        else:
            # The writer's processor time counts in full: on a small machine training needs every core.
            writing = self._writer.seconds if is_last else self._writer.processor_seconds
            cost = self._seconds_of_copying + writing
        return cost <= LARGEST_SHARE * (time.monotonic() - self._last)


class BackgroundWriter:
    """Writes files in a thread; what a piece of work raises is raised by the next call of `check`, `start` or `wait`.

    The thread is a daemon, which an executor's is not: a process may end at once, since files appear whole.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._is_cancelled = threading.Event()
        #: Seconds that the last piece took, and how many of them the processor worked on it.
        self.seconds = self.processor_seconds = 0.0

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[IsCancelled], None]) -> None:
        """Begin a piece of work, once the previous one is done."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="funrec-writer", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the last piece of work raised, if it is done."""
        if not self.is_busy:
            self.wait()

    def wait(self) -> None:
        """Wait for the piece under way, and raise what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if (error := self._error) is not None:
            self._error = None
            raise error

    def cancel(self) -> None:
        """Give up the piece under way, and ignore what it raises."""
        self._is_cancelled.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = self._error = None

    def _run(self, work: Callable[[IsCancelled], None]) -> None:
        clock, processor_clock = time.monotonic(), time.thread_time()
        try:
            work(self._is_cancelled.is_set)
        except Cancelled:
            pass
        except BaseException as error:
            self._error = error
        self.seconds = time.monotonic() - clock
        self.processor_seconds = time.thread_time() - processor_clock
