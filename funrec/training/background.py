"""Work done beside the training: one piece at a time, its errors brought home."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from funrec.utils.files import Cancelled

#: Asked now and then whether what is being written is still wanted.
IsCancelled = Callable[[], bool]


class BackgroundWriter:
    """Writes files in a thread of its own while training goes on.

    What a piece of work raises is raised by the next call of `check`, `start` or `wait`. The thread does not keep the
    process from ending: a file appears whole or not at all anyway.
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
        """Begin a piece of work, once the one before it is done."""
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
        """Give up the piece under way. Whatever it raises is of no interest any more."""
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
