"""Sweeps with Hydra's own launcher, one job after the other: planned, run, failed, stopped, resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, process_unchanged

from funrec.cli.main import main
from funrec.runs.folder import status
from funrec.sweeps.plan import LOCK, leading, read_sweep
from funrec.utils.locks import is_locked

SMALL = ("dataset.rows=3000", "trainer=smoke")
SWEEP = ("run", "-m", "model=logistic", "seed=1,2", "hydra.sweep.dir=sweep", *SMALL)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep that tests look at."""
    place = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch, process_unchanged(), pytest.raises(SystemExit) as stop:
        patch.chdir(place)
        main(SWEEP)
    assert not stop.value.code
    return place


@pytest.fixture
def in_swept(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept)


def once(happened: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as something has happened."""

    def watch() -> None:
        deadline = time.monotonic() + 100
        while not happened() and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def last_table(text: str) -> str:
    return "| model" + f"\n{text}".rpartition("\n| model")[2]


# The plan


@pytest.mark.slow
def test_the_plan_of_a_sweep_stands_in_its_folder(swept: Path) -> None:
    plan = json.loads((swept / "sweep" / "sweep.json").read_text())
    assert plan["command"] == list(SWEEP[1:])
    assert [job["folder"] for job in plan["jobs"]] == ["0", "1"]
    # No file spells dataset.rows, a default of its class.
    assert plan["jobs"][1]["overrides"] == ["model=logistic", "seed=2", f"++{SMALL[0]}", SMALL[1]]
    assert len({job["fingerprint"] for job in plan["jobs"]}) == 2


def test_a_key_that_only_the_swept_choices_have_can_be_set(workdir: Path, funrec: Command) -> None:
    """The sweep as a whole is composed without them: `experiment=a,b dataset.path=X` must not trip over that."""
    (workdir / "mine" / "experiment").mkdir(parents=True)
    for name in "ab":
        (workdir / "mine" / "experiment" / f"{name}.yaml").write_text(
            "# @package _global_\ndefaults:\n  - override /dataset: tabular\n  - _self_\n"
            "dataset: {tasks: {buy: {label: bought}}, features: {who: {}}}\n"
        )
    done = funrec("run", "-m", "--config-dir", "mine", "experiment=a,b", "dataset.path=nowhere.csv")
    assert done.code == 1
    assert done.out.count("nowhere.csv") == 1


def test_an_override_that_no_job_can_take_is_one_line_and_leaves_nothing(workdir: Path, funrec: Command) -> None:
    for wrong, said in (
        ("dataset.rowz=1", "Did you mean rows?"),
        ("metrics.gauc_weight=row", "metrics.gauc_weight should"),
    ):
        done = funrec("run", "-m", "model=logistic,mmoe", wrong)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert said in done.err
    assert not list(workdir.iterdir())


@pytest.mark.slow
def test_a_combination_that_cannot_be_composed_is_a_failed_row(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "-m", "model=logistic,shared_bottom", "model.backbone.dropout=0.1", *SMALL)
    assert done.code == 1
    assert "job 0 (logistic): failed: model.backbone.dropout: no such key" in done.err
    assert "| shared_bottom |" in done.out
    assert "model.backbone.dropout: no such key" in last_table(done.out)


# Jobs


@pytest.mark.slow
def test_a_bug_in_one_job_is_in_its_log_alone_and_the_others_go_on(workdir: Path, funrec: Command) -> None:
    backbones = "funrec.models.backbones.shared_bottom.SharedBottom,troublemakers.Broken"
    sweep = ("model=shared_bottom", f"model.backbone._target_={backbones}", "hydra.sweep.dir=sweep")
    done = funrec("run", "-m", "--allow", "troublemakers", *sweep, *SMALL)
    assert done.code == 1
    assert status("sweep/0").state == "finished"
    assert status("sweep/1").reason == "ZeroDivisionError: division by zero"
    assert "Traceback" in Path("sweep/1/funrec.log").read_text()
    assert "Traceback" not in Path("sweep/0/funrec.log").read_text()
    assert "Traceback" not in done.err


def test_fail_fast_starts_nothing_after_a_failure(workdir: Path, funrec: Command) -> None:
    sweep = ("model=mmoe", "model.backbone.num_experts=0,2,3", "hydra.sweep.dir=sweep")
    done = funrec("run", "-m", "--fail-fast", *sweep, *SMALL)
    assert done.code == 1
    assert [status(f"sweep/{job}").state for job in range(3)] == ["failed", "absent", "absent"]
    assert done.err.splitlines()[-1] == "2 jobs were not started. To go on: funrec resume sweep"


def test_an_error_that_jobs_have_in_common_is_said_once_in_lines_that_fit(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "-m", "model=mmoe", "seed=1,2", "model.backbone.num_experts=0", *SMALL)
    assert done.code == 1
    for said in (done.out, done.err):
        assert said.count("should be a positive whole number") == 1
    assert "job 1 (mmoe seed=2): failed, as job 0; 2 of 2 done" in done.err
    assert max(len(line) for line in done.out.splitlines()) < 120


@pytest.mark.slow
def test_the_first_job_with_the_same_data_makes_the_baselines(workdir: Path, funrec: Command) -> None:
    sweep = ("model=logistic", "weighting=fixed,uncertainty", "dataset.item=null", "hydra.sweep.dir=sweep")
    done = funrec("run", "-m", *sweep, "baselines=true", *SMALL)
    assert done.code == 0, done.err
    assert sorted(record.parent.name for record in Path("sweep").rglob("record.json")) == [
        "0",
        "0_gbdt",
        "0_single_task",
        "1",
    ]
    assert last_table(done.out).count("| single_task ") == 1
    assert "No popularity baseline: the dataset names no item column" in done.err


# Folders


@pytest.mark.slow
@pytest.mark.usefixtures("in_swept")
def test_a_second_sweep_in_the_same_folder_is_refused(funrec: Command) -> None:
    again = funrec(*SWEEP)
    assert (again.code, again.out) == (2, "")
    assert again.err == "funrec: sweep holds a sweep already. Resume it: funrec resume sweep; or choose another.\n"


def test_a_folder_that_another_process_sweeps_in_is_refused(workdir: Path, funrec: Command) -> None:
    with leading(workdir / "sweep", is_new=True):
        assert is_locked(workdir / "sweep" / LOCK)
        done = funrec(*SWEEP)
    assert not is_locked(workdir / "sweep" / LOCK)
    assert done.code == 2
    assert "another process runs one in it" in done.err


@pytest.mark.slow
def test_two_jobs_never_share_a_folder(workdir: Path, funrec: Command) -> None:
    done = funrec(*SWEEP, "hydra.sweep.subdir=job")
    assert done.code == 2
    assert "its own folder. Received: job" in done.err
    assert not list(workdir.iterdir())
    named = funrec(
        *SWEEP,
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra.job.config.override_dirname.exclude_keys=[dataset.rows,trainer]",
    )
    assert named.code == 0, named.err
    assert sorted(path.parent.name for path in Path("sweep").rglob("record.json")) == [
        "model=logistic,seed=1",
        "model=logistic,seed=2",
    ]
    again = funrec("resume", "sweep")
    assert again.code == 0, again.err
    assert again.out == last_table(named.out) or again.out.endswith(last_table(named.out))


# Stopping and going on


@pytest.mark.slow
def test_a_sweep_that_was_interrupted_says_how_to_go_on_and_ends_as_if_it_never_was(
    workdir: Path, funrec: Command
) -> None:
    command = [*SWEEP[:-2], "dataset.rows=3000", "trainer.epochs=12", "trainer.patience=null"]
    undisturbed = funrec(*command[:-4], "hydra.sweep.dir=whole", *command[-3:])
    assert undisturbed.code == 0, undisturbed.err
    once(lambda: "epoch 3" in (log.read_text() if (log := Path("sweep/1/funrec.log")).exists() else ""), interrupt)
    stopped = funrec(*command)
    assert stopped.code == 130
    last = "funrec: Interrupted. 1 of 2 jobs are finished. To go on: funrec resume sweep"
    assert stopped.err.splitlines()[-1] == last
    assert "Traceback" not in stopped.err
    shown = funrec("status", "sweep")
    assert "sweep: 2 jobs, 1 finished, 1 interrupted. To go on: funrec resume sweep" in shown.out
    before = Path("sweep/0/record.json").stat().st_mtime_ns
    resumed = funrec("resume", "sweep")
    assert resumed.code == 0, resumed.err
    assert last_table(resumed.out) == last_table(undisturbed.out)
    assert Path("sweep/0/record.json").stat().st_mtime_ns == before
    assert "Training resumes from its checkpoint" in Path("sweep/1/funrec.log").read_text()


@pytest.mark.slow
def test_what_failed_is_tried_again_and_the_command_can_be_given_from_anywhere(
    workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        (workdir / f"log{seed}.csv").write_text("who,bought\n" + "".join(f"u{i % 9},{i % 3 % 2}\n" for i in range(400)))
    Path("log2.csv").rename("away.csv")
    columns = ("dataset.tasks.buy={label: bought}", "dataset.features.who={}")
    data = ("dataset=tabular", "dataset.path=log1.csv,log2.csv", *(f"+{column}" for column in columns))
    failed = funrec("run", "-m", "model=logistic", *data, "hydra.sweep.dir=sweep", "trainer=smoke")
    assert failed.code == 1
    assert [status(f"sweep/{job}").state for job in range(2)] == ["finished", "failed"]
    Path("away.csv").rename("log2.csv")
    (workdir / "elsewhere").mkdir()
    monkeypatch.chdir(workdir / "elsewhere")
    done = funrec("resume", "../sweep")
    assert done.code == 0, done.err
    assert status(workdir / "sweep" / "1").state == "finished"
    assert not list((workdir / "elsewhere").iterdir())


@pytest.mark.slow
def test_a_sweep_whose_configuration_changed_is_refused_with_what_differs(workdir: Path, funrec: Command) -> None:
    (workdir / "mine" / "trainer").mkdir(parents=True)
    quick = workdir / "mine" / "trainer" / "quick.yaml"
    quick.write_text("defaults: [smoke, _self_]\nbatch_size: 256\n")
    assert funrec("run", "--config-dir", "mine", *SWEEP[1:-1], "trainer=quick").code == 0
    shutil.rmtree("sweep/1")  # as if it had not started yet
    quick.write_text("defaults: [smoke, _self_]\nbatch_size: 128\n")
    refused = funrec("resume", "sweep")
    assert refused.code == 2
    assert "trainer.batch_size was 256 and is 128" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert funrec("resume", "sweep", "--force").code == 0
    configs = [json.loads(Path(f"sweep/{job}/record.json").read_text())["config"] for job in range(2)]
    assert [config["trainer"]["batch_size"] for config in configs] == [256, 128]


@pytest.mark.slow
@pytest.mark.usefixtures("in_swept")
def test_a_sweep_cannot_be_resumed_as_another(funrec: Command) -> None:
    done = funrec("resume", "sweep", "seed=3")
    assert done.code == 2
    assert "seed=3" in done.err
    plan = json.loads(Path("sweep/sweep.json").read_text())
    for damage in ({**plan, "jobs": plan["jobs"][:1]}, {"jobs": []}, []):
        Path("sweep/sweep.json").write_text(json.dumps(damage))
        refused = funrec("resume", "sweep")
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
    Path("sweep/sweep.json").write_text(json.dumps(plan))
    assert read_sweep("sweep").jobs[0].overrides[1] == "seed=1"
    assert funrec("resume", "sweep").code == 0


# Looking and cleaning


def test_status_and_clean_of_nothing_say_so(workdir: Path, funrec: Command) -> None:
    assert funrec("status", "nowhere").code == 2
    assert funrec("clean", "nowhere").code == 2
    assert funrec("resume", "nowhere").code == 2


@pytest.mark.slow
def test_clean_lists_first_and_removes_only_what_did_not_finish(workdir: Path, funrec: Command) -> None:
    funrec("run", "-m", "model=mmoe", "model.backbone.num_experts=0,2", "hydra.sweep.dir=sweep", *SMALL)
    listed = funrec("clean", "sweep")
    assert listed.code == 0
    assert "sweep/0" in listed.out
    assert "sweep/1" not in listed.out
    assert "--yes" in listed.err
    assert status("sweep/0").state == "failed"
    assert funrec("clean", "sweep", "--yes").code == 0
    assert [status(f"sweep/{job}").state for job in range(2)] == ["absent", "finished"]
    assert funrec("clean", "sweep").out == "There is nothing to remove.\n"
