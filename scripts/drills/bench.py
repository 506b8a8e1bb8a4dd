"""Where a drill takes place: a folder, a command, a source of moments, and what an undisturbed run prints."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drills.checks import check, check_tidy, check_whole
from drills.processes import Done, Funrec, NotSurvived, data_bytes

#: Long enough that a moment within it can be hit, with a checkpoint every few steps.
TRAINING = [
    "dataset.rows=8000",
    "trainer.epochs=12",
    "trainer.batch_size=128",
    "trainer.patience=null",
    "trainer.steps_per_call=10",
    "trainer.checkpoint_minutes=0.001",
]
RUN = ["model=mmoe"]
#: Three jobs for two workers: one runs, one waits, one is done sooner or later.
SWEEP = ["-m", "hydra/launcher=process", "hydra.launcher.workers=2", "model=shared_bottom,mmoe,ple"]
LOG, RECORD, CHECKPOINT = "funrec.log", "record.json", "checkpoint.npz"


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when nothing goes wrong.

    Attributes:
        table: What it prints.
        folder: Where it ran.
        until_checkpoint: Seconds from its start to its first checkpoint.
        until_end: Seconds from its start to its end.
        peak: Bytes of memory of its own that it allocated at most, as far as was seen.
    """

    table: str
    folder: Path
    until_checkpoint: float
    until_end: float
    peak: int = 0


@dataclass
class Shared:
    """What all drills share.

    Attributes:
        command: The command of the installation that is tested.
        interpreter: Its Python.
        folder: The folder of all drills.
        data: Overrides that choose the data and how long the training is.
        seed: Of the moments.
        times: How often to inject a fault that is injected at random.
    """

    command: Sequence[str]
    interpreter: str
    folder: Path
    data: Sequence[str]
    seed: int
    times: int
    known: dict[str, Undisturbed] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@dataclass
class Bench:
    """One drill's place and score.

    Attributes:
        name: The drill's.
        shared: What it shares with the others.
        times: How often to inject the fault.
        injected: Faults so far.
        survived: Those of them after which all was as it should be.
        problems: What was not.
        remark: What else the table should say.
    """

    name: str
    shared: Shared
    times: int
    injected: int = 0
    survived: int = 0
    problems: list[str] = field(default_factory=list)
    remark: str = ""

    def __post_init__(self) -> None:
        self.folder = self.shared.folder / self.name
        self.folder.mkdir(parents=True)
        self.draw = random.Random(f"{self.shared.seed} {self.name}")
        self.funrec = Funrec(self.shared.command, self.folder, self.shared.cache)
        self._folders = 0

    @contextmanager
    def injection(self, faults: int = 1) -> Iterator[None]:
        """Count a fault, and whether it is survived: what is raised within is the drill's result, not its end."""
        self.injected += faults
        try:
            yield
        except NotSurvived as problem:
            self.problems.append(str(problem))
        else:
            self.survived += faults
        finally:
            self.funrec.end_all()

    def new_folder(self) -> Path:
        """Return the path of a folder that is not there yet."""
        self._folders += 1
        return self.folder / f"run{self._folders}"

    def run(self, folder: Path) -> list[str]:
        """Return the arguments of the run that is disturbed."""
        return ["run", *RUN, *self.shared.data, f"hydra.run.dir={folder}"]

    def sweep(self, folder: Path) -> list[str]:
        """Return the arguments of the sweep that is disturbed."""
        return ["run", *SWEEP, *self.shared.data, f"hydra.sweep.dir={folder}"]

    def undisturbed_run(self) -> Undisturbed:
        """Return what the run does when nothing goes wrong."""
        return self._undisturbed("run", self.run(self.shared.folder / "undisturbed_run"))

    def undisturbed_sweep(self) -> Undisturbed:
        """Return what the sweep does when nothing goes wrong."""
        return self._undisturbed("sweep", self.sweep(self.shared.folder / "undisturbed_sweep"))

    def _undisturbed(self, kind: str, arguments: Sequence[str]) -> Undisturbed:
        if kind not in self.shared.known:
            folder = self.shared.folder / f"undisturbed_{kind}"
            running = self.funrec.start(*arguments)
            peak, checkpoint = 0, folder / (CHECKPOINT if kind == "run" else f"0/{CHECKPOINT}")
            first = None
            while running.is_alive:
                peak = max(peak, data_bytes(running.process.pid))
                if first is None and checkpoint.exists():
                    first = time.monotonic() - running.started
                time.sleep(0.01)
            seconds, done = time.monotonic() - running.started, running.wait()
            if done.code:
                raise NotSurvived(f"the undisturbed {kind} failed with exit code {done.code}: {done.last_word}")
            self.shared.known[kind] = Undisturbed(done.out, folder, first or seconds / 2, seconds, peak)
        return self.shared.known[kind]

    def check_resumed(self, folder: Path, undisturbed: Undisturbed) -> Done:
        """Go on with a run or a sweep, and check that it ends as if nothing had been.

        Raises:
            NotSurvived: If it does not.
        """
        done = self.funrec("resume", str(folder))
        check(done.code == 0, f"funrec resume {folder} should exit with 0. Received: {done.code}, {done.last_word}")
        check_same(done.out, undisturbed.table)
        check_whole(folder)
        check_tidy(folder)
        return done


def check_same(table: str, expected: str) -> None:
    """Check that a table is that of the undisturbed run, to the last byte.

    Raises:
        NotSurvived: If it is not.
    """
    check(table == expected, f"the table should be\n{expected}\nReceived:\n{table}")


def check_refused(done: Done, *words: str) -> None:
    """Check that a command said what is wrong in one line, among others one of `words`, and left with an exit code.

    Raises:
        NotSurvived: If it did not.
    """
    check(done.code in (1, 2), f"it should exit with 1 or 2. Received: {done.code}, {done.last_word}")
    check("Traceback" not in done.err, f"it should say what is wrong in one line. Received: {done.err[-500:]}")
    check(any(word in done.err for word in words), f"it should say {' or '.join(words)}. Received: {done.last_word}")
