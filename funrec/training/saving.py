"""When a training is written down, and how: in the background, at a cost that is bounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from funrec.training.background import BackgroundWriter, IsCancelled
from funrec.training.checkpoint import weights_epoch, write_weights
from funrec.training.state import Session, TrainingState
from funrec.utils.errors import InputError
from funrec.utils.files import read_arrays, read_notes, write_arrays

log = logging.getLogger("funrec")

#: The largest share of the time since the last checkpoint that one may cost.
LARGEST_SHARE = 0.03
#: A checkpoint up to this size, which costs a few hundredths of a second, is written at the end of every epoch.
SMALL_BYTES = 1 << 25
#: What the first one is taken to cost, before there is one to measure: beside training, and when training is over.
BYTES_PER_SECOND, BYTES_PER_SECOND_AT_THE_END = 1e9, 2e8

_STARTS_OVER = "Training starts over from the first epoch."


@dataclass(frozen=True)
class CheckpointFile:
    """Where a training is written down, and what it stands on.

    Attributes:
        path: The file.
        origin: What a training that goes on from it should have in common with it; see `funrec.runs.provenance`.
    """

    path: Path
    origin: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """Writes a training down while it goes on, and finds it again: `with Checkpoints(...) as checkpoints: ...`.

    At the edge of a block the weights and all else are copied, and a thread writes the copies to disk, so that training
    waits for the copying alone. A checkpoint that would cost more than 3% of the time since the last one waits until
    it does not: a model of gigabytes is written now and then, a small one after every epoch.

    What the disk has to say, that it is full for one, is raised by the next call.

    Args:
        file: Where to; none writes no checkpoints.
        folder: Where the best epoch's weights go, which are always written.
        minutes: Minutes between checkpoints within an epoch; none writes them at the end of epochs alone.
    """

    def __init__(self, file: CheckpointFile | None, folder: Path, minutes: float | None = None) -> None:
        self.file = file
        self.folder = folder
        self.minutes = minutes
        self._writer = BackgroundWriter()
        self._last = time.monotonic()
        self._seconds_of_copying: float | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if kind is None:
            self.wait()
        elif issubclass(kind, Exception):
            with suppress(Exception):  # the first error is the one to tell of
                self.wait()
        else:
            self._writer.cancel()

    def restore(self, session: Session) -> None:
        """Put a training back to where the file has it; leave it as it is where there is none, or it is damaged.

        Raises:
            InputError: If the checkpoint is another model's.
        """
        if self.file is None or not self.file.path.exists():
            return
        try:
            notes, arrays = read_notes(self.file.path), read_arrays(self.file.path)
            state = TrainingState.from_plain(notes["state"])
        except (InputError, KeyError, TypeError) as error:
            problem = str(error).removesuffix(" Run it again.") if isinstance(error, InputError) else "It is of old."
            log.warning("%s %s", problem, _STARTS_OVER)
            return
        # Weights of an epoch that is yet to be trained again, which will find them again, were written just before
        # the process died.
        found = weights_epoch(self.folder)
        if state.best_epoch and (found is None or state.best_epoch != found <= state.epoch):
            log.warning("%s should hold the weights of epoch %d. %s", self.folder, state.best_epoch, _STARTS_OVER)
            return
        session.restore(arrays, state)
        state.resumed_at.append(state.step)
        self._last = time.monotonic()
        log.info("Training goes on from its checkpoint, %s.", notes["position"])

    def save_if_due(self, session: Session) -> None:
        """Write a checkpoint within an epoch if it is time, while training goes on."""
        self._writer.check()
        if self.minutes is None or self._writer.is_busy or time.monotonic() - self._last < 60 * self.minutes:
            return
        if self._is_affordable(session):
            self._save(session)

    def save_epoch(
        self, session: Session, best: Sequence[np.ndarray] | None, is_last: bool = False, is_wanted: bool = False
    ) -> None:
        """Write what the end of an epoch leaves, while training goes on.

        Args:
            session: The training.
            best: Copies of the weights that were validated, if no epoch was better.
            is_last: Whether it does not go on, so that there is nothing to write beside.
            is_wanted: Whether to write a checkpoint at any cost.
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
        file, folder, epoch = self.file, self.folder, session.state.epoch
        arrays, notes = {}, {}
        if has_checkpoint and file is not None:
            clock = time.monotonic()
            arrays = session.arrays(None if session.average.steps else best)
            notes = {
                "origin": file.origin,
                "position": session.state.position(),
                "state": session.state.to_plain(),
            }
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
            # The writer's processor time counts in full: on a small machine training wants every core.
            writing = self._writer.seconds if is_last else self._writer.processor_seconds
            cost = self._seconds_of_copying + writing
        return cost <= LARGEST_SHARE * (time.monotonic() - self._last)
