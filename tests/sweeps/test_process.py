"""`hydra/launcher=process`: jobs in processes of their own, killed, starved, interrupted, orphaned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Command

import funrec as package
from funrec.runs import record
from funrec.runs.folder import status

pytestmark = pytest.mark.slow

SHARED_BOTTOM = "funrec.models.backbones.shared_bottom.SharedBottom"
SMALL = ("dataset.rows=3000", "trainer=smoke")
PROCESS = ("run", "-m", "hydra/launcher=process", "hydra.launcher.workers=2")
#: Some seconds of training for each job, so that there is a middle to stop it in.
MEDIUM = ("model=logistic", "seed=1,2,3", "dataset.rows=3000", "trainer.epochs=40", "trainer.patience=null")

#: More than anybody waits for: a busy machine may start one job well after the other.
LONG = (*MEDIUM, "trainer.epochs=2000")


def logs(sweep: str) -> list[str]:
    return [log.read_text() for log in sorted(Path(sweep).glob("*/funrec.log"))]


def wait_for(text: str, sweep: str, jobs: int) -> None:
    deadline = time.monotonic() + 100
    while sum(text in log for log in logs(sweep)) < jobs:
        assert time.monotonic() < deadline, logs(sweep)
        time.sleep(0.02)


def test_a_job_that_is_killed_or_starves_is_a_failed_row_and_the_others_end_as_without_processes(
    workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNREC_CACHE", str(workdir / "cache"))
    backbones = f"troublemakers.Killed,troublemakers.Hungry,{SHARED_BOTTOM}"
    sweep = ("model=shared_bottom", f"model.backbone._target_={backbones}", "hydra.sweep.dir=sweep")
    done = funrec(*PROCESS, "--allow", "troublemakers", *sweep, *SMALL)
    assert done.code == 1
    assert status("sweep/0").reason == "killed by SIGKILL, perhaps for want of memory"
    assert "out of memory" in status("sweep/1").reason
    assert "killed by SIGKILL" in done.out
    assert "Traceback" in Path("sweep/1/funrec.log").read_text()
    assert "Traceback" not in done.err
    assert record.read("sweep/2")["metrics"] == package.run_experiment("shared_bottom", *SMALL).metrics
    assert done.out.count("| model ") == 2  # what finished, and what did not
    assert "; 3 of 3 done" in done.err
    assert "epoch 1" in logs("sweep")[2] and "epoch 1" not in done.err
    # All of them read the same prepared data.
    assert sum(log.count("prepared 3,000 rows") for log in logs("sweep")) == 1
    assert len(list((workdir / "cache").glob("*/manifest.json"))) == 1


def test_fail_fast_lets_what_runs_finish_and_starts_nothing_else(workdir: Path, funrec: Command) -> None:
    sweep = ("model=mmoe", "model.backbone.num_experts=0,2,3", "hydra.launcher.workers=1", "hydra.sweep.dir=sweep")
    done = funrec("run", "-m", "hydra/launcher=process", "--fail-fast", *sweep, *SMALL)
    assert done.code == 1
    assert [status(f"sweep/{job}").state for job in range(3)] == ["failed", "absent", "absent"]


def test_ctrl_c_reaches_every_job_once_and_each_leaves_a_checkpoint(workdir: Path, funrec: Command) -> None:
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCH, "2", str(os.getpid())], cwd=workdir, stdout=subprocess.DEVNULL
    )
    stopped = funrec(*PROCESS, *LONG, "hydra.sweep.dir=sweep")
    assert watcher.wait(100) == 0
    assert stopped.code == 130, stopped.err
    assert stopped.out == ""
    assert stopped.err.splitlines()[-1].endswith("0 of 3 jobs are finished. To go on: funrec resume sweep")
    found = [status(f"sweep/{job}") for job in range(3)]
    assert [job.state for job in found] == ["interrupted", "interrupted", "absent"]
    assert all("epoch" in job.progress for job in found[:2])


WATCH = """
import glob, os, signal, sys, time
jobs, process = map(int, sys.argv[1:])
while sum("epoch 1" in open(log).read() for log in glob.glob("sweep/*/funrec.log")) < jobs:
    time.sleep(0.02)
os.kill(process, signal.SIGINT)
"""


@pytest.mark.exhaustive  # a drill of half a minute
def test_jobs_stop_with_a_checkpoint_when_the_sweep_is_killed_and_the_rest_can_be_resumed(
    workdir: Path, funrec: Command
) -> None:
    command = [sys.executable, "-m", "funrec.cli.main", *PROCESS, *MEDIUM, "hydra.sweep.dir=sweep"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        wait_for("epoch 3", "sweep", jobs=1)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while "running" in (states := [status(f"sweep/{job}").state for job in range(3)]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "interrupted" in states
    assert "finished" not in states
    shown = funrec("status", "sweep").out.splitlines()[-1]
    assert shown.startswith("sweep: 3 jobs, ")
    assert shown.endswith(" waiting. To go on: funrec resume sweep")
    resumed = funrec("resume", "sweep")
    assert resumed.code == 0, resumed.err
    assert [status(f"sweep/{job}").state for job in range(3)] == ["finished"] * 3
    job = states.index("interrupted")
    undisturbed = package.run_experiment(*MEDIUM[:1], f"seed={job + 1}", *MEDIUM[2:])
    assert record.read(f"sweep/{job}")["metrics"] == undisturbed.metrics


def test_the_process_that_forks_jobs_has_one_thread() -> None:
    """More could hold a lock at the moment of the fork, which nobody would ever release in the child."""
    code = "import funrec.sweeps.preload, os, sys; print(len(os.listdir('/proc/self/task')), 'polars' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert done.stderr == ""


@pytest.mark.parametrize("workers", ["0", "true", "1.5", "100000"])
def test_a_number_of_workers_that_cannot_be_is_refused_before_anything_is_written(
    workdir: Path, funrec: Command, workers: str
) -> None:
    done = funrec("run", "-m", "hydra/launcher=process", f"hydra.launcher.workers={workers}", "seed=1,2")
    assert done.code == 2
    assert done.err.startswith("funrec: hydra.launcher.workers should")
    assert not list(workdir.iterdir())
