"""Ctrl-C during a run: what it stops, what is finished first, and how to resume."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

#: A terminal's Ctrl-C, and what `kill`, batch systems and launchers send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: A launcher may pass a terminal's Ctrl-C on as SIGTERM: within so many seconds the two are one request.
SAME_REQUEST = 2.0


#: The exit code of a process that was stopped so.
EXIT_CODE = 130


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside, and can be resumed.

    Attributes:
        folder: What to resume: a run's folder.
        position: Where it stands there; empty before its first checkpoint.
    """

    def __init__(self, folder: str | Path, position: str = "") -> None:
        self.folder = Path(folder)
        self.position = position
        where = f"Its checkpoint stands {position}. To go on" if position else "It has no checkpoint. To start over"
        super().__init__(f"Interrupted. {where}: funrec resume {shlex.quote(str(folder))}")


class Interruption:
    """Takes SIGINT and SIGTERM for as long as a run lives: `with Interruption() as interruption: ...`.

    A signal raises `KeyboardInterrupt`. Within `deferred`, the first only sets `is_requested`, so that the training
    can finish what is half done; a second one raises.

    Handlers are taken in the main thread only, which is where Python runs them, and given back at the end. A signal
    that is ignored (a job in the background of a script) or handled outside of Python is left alone.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_deferred = False
        self._first: tuple[int, float] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the first signal wait until the training reads `is_requested`, or until the end of the block."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self.is_requested:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is not None:
            first, then = self._first
            if number != first and now - then < SAME_REQUEST:
                return
        else:
            self._first = number, now
            if self._is_deferred:
                self.is_requested = True
                return
        raise KeyboardInterrupt
