"""The quickest of the fault drills (scripts/drill_faults.py): processes killed and disks filled for real.

Only what is harmed runs in a process of its own; what goes on with it, and what it is compared with, runs in this one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Command

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from drills.checks import Finished, check_tidy, check_whole, checksums
from drills.disk import small_disk
from drills.processes import Funrec, Running
from drills.runs import WRITING, is_writing
from drills.sweeps import workers_that_train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")]

TRAINING = [
    "dataset.rows=2000",
    "trainer.epochs=4",
    "trainer.batch_size=64",
    "trainer.patience=null",
    "trainer.steps_per_call=10",
    "trainer.checkpoint_minutes=0.001",
]
RUN = ["run", "model=shared_bottom", *TRAINING]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `RUN` prints when nothing goes wrong."""
    import funrec

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        return f"{funrec.run_experiment('shared_bottom', *TRAINING).table()}\n"


@pytest.fixture
def outside(workdir: Path, one_cache: Path) -> Iterator[Funrec]:
    """The command as a process that can be harmed."""
    command = Funrec([sys.executable, "-m", "funrec.cli.main"], workdir, one_cache)
    yield command
    command.end_all()


def test_a_run_killed_while_it_writes_its_record_goes_on_to_the_same_table(
    outside: Funrec, funrec: Command, undisturbed: str, workdir: Path
) -> None:
    place, prefix = WRITING["record"]
    for attempt in range(3):  # on a busy machine the moment may pass unseen
        run = workdir / f"run{attempt}"
        running = outside.start(*RUN, f"hydra.run.dir={run.name}")
        if running.wait_until(lambda run=run: is_writing(run / place, prefix)):
            break
    else:
        pytest.fail("No record was seen while it was written.")
    running.kill()

    check_whole(run)
    if not (run / "record.json").exists():  # it may have been written before the kill arrived
        assert "interrupted" in funrec("status", run.name).out
        assert funrec("resume", run.name).out == undisturbed
    check_tidy(run)
    assert json.loads((run / "record.json").read_text())["metrics"]


@pytest.mark.exhaustive  # test_resume.py fills the disk at the same place, without a process and a disk of its own
def test_a_disk_full_during_a_checkpoint_is_said_in_one_line_and_the_run_goes_on(
    outside: Funrec, funrec: Command, undisturbed: str, workdir: Path
) -> None:
    with small_disk(workdir / "disk") as disk:
        run = disk.path / "run"
        running = outside.start(*RUN, f"hydra.run.dir={run}")
        assert running.wait_until((run / "checkpoint.npz").exists), running.wait().err
        os.kill(running.process.pid, signal.SIGSTOP)
        disk.fill(running)
        os.kill(running.process.pid, signal.SIGCONT)
        done = running.wait()

        assert done.code == 2
        assert "Traceback" not in done.err
        assert "No space left" in done.err or "File too large" in done.err
        check_whole(run)
        disk.make_room()
        assert funrec("resume", str(run)).out == undisturbed
        check_tidy(run)


@pytest.mark.exhaustive  # a drill of half a minute
def test_a_sweep_whose_job_and_then_parent_are_killed_loses_no_result(
    outside: Funrec, funrec: Command, workdir: Path
) -> None:
    sweep = ["-m", "model=logistic,shared_bottom", *TRAINING]
    process = ["hydra/launcher=process", "hydra.launcher.workers=2"]
    running = outside.start("run", *sweep, *process, "hydra.sweep.dir=sweep")
    victims: list[int] = []
    assert running.wait_until(_found(victims, running, workdir / "sweep"), interval=0.01), running.wait().err
    os.kill(victims[0], signal.SIGKILL)
    assert running.wait_until(lambda: _ended(workdir / "sweep") > 0, interval=0.01), running.wait().err
    running.kill()

    assert running.survivors(patience=60) == []
    check_whole(workdir / "sweep")
    finished = Finished(workdir / "sweep")
    assert "To go on: funrec resume sweep" in funrec("status", "sweep").out
    resumed = funrec("resume", "sweep", "hydra/launcher=basic")
    assert resumed.code == 0, resumed.err
    finished.check()
    check_tidy(workdir / "sweep")
    assert _last_table(resumed.out) == _last_table(funrec("run", *sweep).out)


def test_damaged_prepared_data_is_named_and_prepared_anew(
    funrec: Command, workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FUNREC_CACHE", "cache")
    before = funrec("data", "describe", "dataset.rows=2000")
    expected, draw = checksums(workdir / "cache"), random.Random(0)
    for damage in ("truncated", "flipped"):
        harmed = draw.choice(sorted((workdir / "cache").rglob("*.npy")))
        content = bytearray(harmed.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        harmed.write_bytes(content if damage == "flipped" else content[: draw.randrange(len(content))])

        caplog.clear()
        after = funrec("data", "describe", "dataset.rows=2000")
        assert harmed.name in caplog.text
        assert after.out == before.out
        assert checksums(workdir / "cache") == expected


def _found(victims: list[int], running: Running, folder: Path) -> Callable[[], bool]:
    def is_found() -> bool:
        victims[:] = workers_that_train(running, folder)
        return bool(victims)

    return is_found


def _ended(sweep: Path) -> int:
    return sum(1 for name in ("record.json", "failure.json") for _ in sweep.glob(f"*/{name}"))


def _last_table(printed: str) -> list[str]:
    """Return the table that ends what a sweep prints; the launcher in this process prints one per job before."""
    lines = printed.splitlines()
    borders = [place for place, line in enumerate(lines) if line.startswith("+=")]
    return lines[borders[-1] - 2 :]
