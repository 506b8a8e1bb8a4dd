"""The `funrec` command as processes that can be watched and harmed from outside. Linux only: it reads /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds after which a command that has not ended counts as hanging; generous, for slow machines.
PATIENCE = 300.0
#: Seconds between looks while waiting for a moment; windows of a few milliseconds are to be hit.
INTERVAL = 0.0005


class NotSurvived(Exception):
    """What should have held after a fault, and did not."""


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code (negative for a signal), and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def last_word(self) -> str:
        """The last line of standard error."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


class Running:
    """A command that runs, in a session of its own, its output in files."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, output: Path) -> None:
        self.process = process
        self.name = name
        self.started = time.monotonic()
        self._output = output
        self._family: set[tuple[int, str]] = set()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait(self, patience: float = PATIENCE) -> Done:
        """Return what it left.

        Raises:
            NotSurvived: If it does not end.
        """
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.end()
            raise NotSurvived(f"{self.name} did not end within {patience:.0f} s") from None
        return Done(code, *(self._output.with_suffix(kind).read_text("utf-8", "replace") for kind in (".out", ".err")))

    def wait_until(self, holds: Callable[[], bool], patience: float = PATIENCE, interval: float = INTERVAL) -> bool:
        """Wait until something holds, and return whether it did before the command ended."""
        limit = time.monotonic() + patience
        while not holds():
            if not self.is_alive:
                return holds()
            if time.monotonic() > limit:
                self.end()
                raise NotSurvived(f"{self.name} did not come as far as expected within {patience:.0f} s")
            time.sleep(interval)
        return True

    def kill(self) -> None:
        """End the one process, as the out-of-memory killer does."""
        self.remember()
        self.process.kill()
        self.process.wait()

    def remember(self) -> set[tuple[int, str]]:
        """Return the processes that descend from it, itself left out; they are known from now on."""
        self._family |= set(descendants(self.process.pid))
        return self._family

    def survivors(self, patience: float) -> list[int]:
        """Return those of the remembered processes that still live after some seconds."""
        limit = time.monotonic() + patience
        while (alive := [pid for pid, start in self._family if _start(pid) == start]) and time.monotonic() < limit:
            time.sleep(0.05)
        return alive

    def end(self) -> None:
        """End it and what it started, for good."""
        self.remember()
        for pid, start in [(self.process.pid, _start(self.process.pid)), *self._family]:
            if start and _start(pid) == start:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Funrec:
    """The command, called in one working folder.

    Attributes:
        command: What to put before its arguments.
        folder: The working folder.
        cache: Of prepared data.
    """

    command: Sequence[str]
    folder: Path
    cache: Path
    _calls: list[Running] = field(default_factory=list)

    def start(
        self, *arguments: str, before: Callable[[], None] | None = None, variables: Mapping[str, str] | None = None
    ) -> Running:
        """Start the command.

        Args:
            arguments: Its arguments.
            before: Called in the new process before it becomes the command: to limit what it may use.
            variables: Further environment variables.
        """
        logs = self.folder / ".calls"
        logs.mkdir(parents=True, exist_ok=True)
        output = logs / f"{len(self._calls)}.log"
        environment = {**os.environ, "FUNREC_CACHE": str(self.cache), **(variables or {})}
        with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [*self.command, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=before,
            )
        running = Running(process, f"funrec {' '.join(arguments)}", output)
        self._calls.append(running)
        return running

    def __call__(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Done:
        """Run the command to its end."""
        return self.start(*arguments, variables=variables).wait()

    def end_all(self) -> None:
        """End whatever still runs."""
        for call in self._calls:
            call.end()


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the processes that a process started, and those that they did, each with the time of its start."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and (fields := _stat(int(place.name))):
            children.setdefault(int(fields[1]), []).append(int(place.name))
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            waiting.append(child)
            if start := _start(child):
                yield child, start


def command_line(pid: int) -> str:
    """Return what a process calls itself; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def data_bytes(pid: int) -> int:
    """Return the memory of its own that a process has allocated, which RLIMIT_DATA limits; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), 0)


def holds_lock(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(os.path.samefile(link, path) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _start(pid: int) -> str:
    """Return when a process was started; empty if it is gone or a zombie."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
