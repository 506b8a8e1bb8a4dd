"""What a person sees while a sweep runs: a line as each job ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from funrec.runs import record
from funrec.runs.folder import FAILURE, RECORD
from funrec.sweeps.outcome import state
from funrec.sweeps.plan import Job, Sweep, by_key
from funrec.utils.errors import InputError

#: Seconds between looks at the jobs' folders, which is where every launcher's jobs show that they have ended.
INTERVAL = 0.5


@contextmanager
def announcing(sweep: Sweep) -> Iterator[None]:
    """Write a line to standard error as each job of a sweep ends: how well it did, how many are left, how long."""
    teller, is_over = _Teller(sweep), Event()

    def look() -> None:
        while not is_over.wait(INTERVAL):
            teller.look()

    thread = Thread(target=look, name="announcing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        teller.look()


class _Teller:
    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._swept = [key for key in sweep.swept if key != "model"]
        self._left = [job for job in sweep.jobs if not self._has_ended(job)]
        self._ended = 0
        self._started = time.monotonic()

    def look(self) -> None:
        for job in [job for job in self._left if self._has_ended(job)]:
            self._left.remove(job)
            self._ended += 1
            sys.stderr.write(f"{self._line(job)}\n")
            sys.stderr.flush()

    def _has_ended(self, job: Job) -> bool:
        folder = self._sweep.folder(job)
        return (folder / RECORD).is_file() or (folder / FAILURE).is_file()

    def _line(self, job: Job) -> str:
        total = len(self._sweep.jobs)
        asked = by_key(job.overrides)
        swept = [f"{key}={asked[key]}" for key in self._swept if key in asked]
        return f"job {job.number} ({' '.join([asked.get('model', ''), *swept]).strip()}): {self._result(job)}; " + (
            f"{total - len(self._left)} of {total} done" + (f", {self._time_left()} left" if self._left else "")
        )

    def _result(self, job: Job) -> str:
        if (found := state(self._sweep, job)).state != "finished":
            return f"failed: {found.reason}"
        try:
            done = record.read(self._sweep.folder(job))
        except InputError as error:
            return str(error)
        metric = next((name for name in ("auc_macro", *done["metrics"]) if name in done["metrics"]), None)
        took = sum((done.get("seconds") or {}).values())
        return (f"{metric} {done['metrics'][metric]:.4f}, " if metric else "") + f"{took:.1f} s"

    def _time_left(self) -> str:
        seconds = (time.monotonic() - self._started) / self._ended * len(self._left)
        return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"
