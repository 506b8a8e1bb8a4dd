"""Processes that work on a study side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from funrec.sweeps.resources import environment
from funrec.utils.errors import InputError

#: What a worker returns when the input is not what it should be; see `funrec.cli.main`.
BAD_INPUT = 2

#: Deaths of workers in a row, without a trial that ended in between, after which something else is wrong.
MOST_DEATHS = 12


class Workers:
    """Worker processes, each `funrec tune --join STUDY --worker` with its share of the machine.

    A worker holds the reading end of a pipe to its parent, and stops when it closes: however the parent dies, nobody
    is left behind.

    Args:
        study: The study's folder.
        count: How many at a time.
        force: Passed on: see `funrec.experiment.experiment.run`.
    """

    def __init__(self, study: Path, count: int, force: bool = False) -> None:
        self._study, self._count = study, count
        self._command = [sys.executable, "-m", "funrec.cli.main", "tune", "--join", str(study), "--worker", str(count)]
        self._command += ["--force"] if force else []
        self._logs = study / ".workers"
        self._alive: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._started = 0
        self.deaths = 0

    def fill(self, count: int) -> None:
        """Start workers until there are so many."""
        self._logs.mkdir(exist_ok=True)
        while len(self._alive) < count:
            self._started += 1
            log = self._logs / f"{os.getpid()}_{self._started}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **environment(self._count)},
                    start_new_session=True,  # a terminal's Ctrl-C reaches them once, through their parent
                )
            self._alive.append((process, log))

    @property
    def pids(self) -> list[int]:
        """Process numbers of those who live."""
        return [process.pid for process, _ in self._alive]

    def collect(self) -> None:
        """Take leave of those who have ended.

        Raises:
            InputError: If one of them says that the input is not what it should be, or they keep on dying.
        """
        for process, log in list(self._alive):
            if (code := process.poll()) is None:
                continue
            self._alive.remove((process, log))
            if process.stdin:
                process.stdin.close()
            if code == BAD_INPUT:
                raise InputError(_last_line(log).removeprefix("funrec: "))
            if code:
                self.deaths += 1
            if self.deaths > MOST_DEATHS:
                raise InputError(
                    f"Workers should live longer than to die {self.deaths} times in a row. Look at {log}, or try "
                    f"search.workers=1."
                )

    def stop(self, patience: float = 600.0) -> None:
        """Ask all to write their checkpoints and stop, and wait for them; a second Ctrl-C ends them at once."""
        for process, _ in self._alive:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        try:
            for process, _ in self._alive:
                process.wait(patience)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            for process, _ in self._alive:
                process.kill()
        for process, _ in self._alive:
            process.wait()
            if process.stdin:
                process.stdin.close()
        self._alive.clear()


@contextmanager
def stopping_with_parent() -> Iterator[None]:
    """Stop this process, as Ctrl-C does, when standard input closes: the one who started it has died."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    done = threading.Event()
    threading.Thread(target=watch, name="funrec-parent", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"A worker stopped without a word. Look at {log}."
