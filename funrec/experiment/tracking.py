"""What a run reports to experiment trackers: its parameters, every epoch, and how it ended."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from funrec.config.build import build
from funrec.utils.errors import InputError, Pruned
from funrec.utils.files import explain, flatten, one_line
from funrec.utils.signals import Interrupted
from funrec.utils.specs import PositiveNumber

log = logging.getLogger("funrec")

#: Files that make a folder a sweep or a study, whose runs belong together.
PARENTS = ("sweep.json", "study.json")


@dataclass(frozen=True)
class TrackedRun:
    """What trackers know of a run when it starts.

    Attributes:
        folder: The run's folder.
        config: Its resolved configuration, plain values.
        overrides: What was asked for on top of the defaults.
    """

    folder: Path
    config: Mapping[str, Any]
    overrides: Sequence[str]

    @property
    def parent(self) -> Path | None:
        """The folder of the sweep or study that the run is part of, if it is."""
        folders = self.folder.absolute().parents
        return next((folder for folder in folders for name in PARENTS if (folder / name).is_file()), None)

    @property
    def name(self) -> str:
        """The run's folder, within that of its sweep or study if there is one."""
        folder = self.folder.absolute()
        return str(folder.relative_to((self.parent or folder).parent))

    @property
    def parameters(self) -> dict[str, str | int | float | bool]:
        """The configuration by dotted key; a null is left out, and a list is written as text."""
        shown = {key: value for key, value in self.config.items() if key not in ("tracking", "report")}
        known = {key: value for key, value in flatten(shown) if value not in (None, {})}
        return {key: value if isinstance(value, int | float | bool) else str(value) for key, value in known.items()}


class Tracker(ABC):
    """An experiment tracker. Its methods are called one after the other, in a thread of their own.

    Args:
        wait: Seconds that a run waits for it at its end.
    """

    #: Its package, which is also the name of the extra that installs it.
    package: str

    def __init__(self, wait: PositiveNumber = 60.0) -> None:
        self.wait = wait
        try:
            import_module(self.package)  # here: imports by two threads at a time get in each other's way
        except ModuleNotFoundError as error:
            if error.name != self.package:
                raise
            raise InputError(
                f"tracking={self.package} should find its package. It is missing: "
                f'pip install "funrec-lab[{self.package}]".'
            ) from None

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Take a run's parameters. A resumed run starts again and repeats its epochs."""

    @abstractmethod
    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Take what the history has of an epoch: losses, task weights, gradient norms, gates, metrics, seconds."""

    @abstractmethod
    def finish(self, record: Mapping[str, Any]) -> None:
        """Take a finished run's record; the run's folder is complete."""

    @abstractmethod
    def fail(self, state: str, reason: str) -> None:
        """Take why a run did not finish; `state` is `failed`, `pruned` or `interrupted`."""


def run_id(folder: Path) -> str:
    """Return an identifier of a run's, sweep's or study's folder."""
    return sha256(str(folder.resolve()).encode()).hexdigest()[:16]


class Trackers:
    """All trackers of a run. What goes wrong in one is a warning, after which the run goes on without it."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._channels: list[_Channel] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            is_stopped = isinstance(error, Interrupted | KeyboardInterrupt)
            state = "interrupted" if is_stopped else "pruned" if isinstance(error, Pruned) else "failed"
            self._tell("fail", state, explain(error))
        for channel in self._channels:
            channel.close()

    def start(self) -> None:
        """Start what the configuration names."""
        chosen = self._run.config.get("tracking") or {}
        trackers = {name: build(chosen[name], Tracker, f"tracking.{name}") for name in chosen}
        self._channels = [_Channel(name, tracker) for name, tracker in trackers.items()]
        self._tell("start", self._run)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Tell of an epoch, as its row of the history has it."""
        self._tell("epoch", row["epoch"], {name: float(v) for name, v in row.items() if isinstance(v, int | float)})

    def finish(self, record: Mapping[str, Any]) -> None:
        """Tell that the run has finished."""
        self._tell("finish", record)

    def _tell(self, method: str, *arguments: Any) -> None:
        for channel in self._channels:
            channel.send(method, arguments)


class _Channel:
    """A tracker and the thread that talks to it, so that a slow server does not slow the training."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._calls: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"funrec-{name}", daemon=True)
        self._thread.start()

    def send(self, method: str, arguments: tuple[Any, ...]) -> None:
        self._calls.put((method, arguments))

    def close(self) -> None:
        """Wait until everything is reported, for as long as the tracker may take."""
        self._calls.put(None)
        self._thread.join(self._tracker.wait)
        if self._thread.is_alive():
            log.warning("tracking.%s did not answer within %g s. The run stands.", self._name, self._tracker.wait)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                getattr(self._tracker, call[0])(*call[1])
            except Exception as error:
                log.debug("tracking.%s failed.", self._name, exc_info=True)
                log.warning("tracking.%s failed: %s. The run goes on without it.", self._name, one_line(error))
                return
