"""A run in several processes: the table of one, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import contracts
import numpy as np
import pytest
from examples import layout, model

from funrec.config.compose import compose
from funrec.experiment import experiment
from funrec.experiment.experiment import load_run
from funrec.models.backbones.mmoe import MMoE
from funrec.runs.folder import status
from funrec.training.optimizers import LazyAdam
from funrec.training.shards import count_shards
from funrec.training.step import TrainingStep
from funrec.training.workers import ALONE, Workers, join_workers
from funrec.utils.errors import InputError
from funrec.weighting.pcgrad import PCGrad

SMALL = ("dataset.rows=3000", "trainer=smoke", "trainer.epochs=2", "trainer.steps_per_call=2", "trainer.workers=2")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "funrec.cli.main", *arguments]


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    asked = command("run", *SMALL, *overrides, f"hydra.run.dir={folder}")
    return subprocess.run(asked, cwd=folder.parent, capture_output=True, text=True, timeout=300, check=False)


def workers_of(process: int) -> list[int]:
    """Return the processes that a run has started."""
    children = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def is_alive(process: int) -> bool:
    line = Path(f"/proc/{process}/cmdline")
    return line.exists() and bool(line.read_bytes())


def test_workers_divide_a_batch() -> None:
    three = Workers()
    three.count, three.index = 3, 1
    assert three.part(9) == slice(3, 6)
    with pytest.raises(InputError, match=r"multiple of trainer.workers. Received: 10 rows for 3 workers"):
        three.part(10)


def test_one_worker_reads_no_cluster_that_a_batch_system_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["elsewhere:1"]}, "task": {"type": "worker", "index": 0}}')
    assert join_workers(1) is ALONE


def test_what_would_have_to_know_of_all_rows_is_refused() -> None:
    two = Workers()
    two.count = 2
    built = contracts.build("mmoe", "independent")
    weighting = PCGrad()
    weighting.configure(built.tasks)
    with pytest.raises(InputError, match=r"weighting.shared should be representation for trainer.workers > 1"):
        TrainingStep(built, weighting, LazyAdam(), 0, workers=two)
    normalised = model(MMoE(num_experts=2, expert_units=(8,), batch_normalization=True), layout({"user": 20}))
    with pytest.raises(InputError, match="should be 1 for a network that takes whole batches"):
        count_shards(normalised, 2, 64, two)


@pytest.mark.slow
def test_two_workers_leave_a_table_near_that_of_one(tmp_path: Path) -> None:
    done = run(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    (tmp_path / "alone").mkdir()
    alone = experiment.run(compose([*SMALL, "trainer.workers=1"]), tmp_path / "alone")
    losses = [np.asarray(one.history()["loss_is_click"]) for one in (load_run(tmp_path / "two"), alone)]
    assert (losses[0] != losses[1]).all()  # each worker draws its own dropout
    np.testing.assert_allclose(*losses, rtol=0.02)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("victim", ["worker", "starter"])
def test_a_worker_that_is_killed_ends_the_run_which_resumes(tmp_path: Path, victim: str) -> None:
    folder = tmp_path / "run"
    asked = command("run", *SMALL, "trainer.epochs=40", "trainer.patience=null", f"hydra.run.dir={folder}")
    process = subprocess.Popen(asked, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not status(folder).progress.startswith("after epoch"):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    team = workers_of(process.pid)
    assert len(team) == 2
    os.kill(team[1] if victim == "worker" else process.pid, signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    until = time.monotonic() + 30
    while any(is_alive(member) for member in team):
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.2)
    if victim == "worker":
        assert process.returncode == 2
        assert "Received: worker 1 of 2 ended with exit code -9" in error
        assert "Traceback" not in error
    assert status(folder).state in ("failed", "interrupted")
    done = subprocess.run(command("resume", str(folder)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("undisturbed", "again"):
        other = run(tmp_path / name, "trainer.epochs=40", "trainer.patience=null")
        assert other.returncode == 0, other.stderr
        assert load_run(folder).metrics == load_run(tmp_path / name).metrics
