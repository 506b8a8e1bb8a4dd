"""`funrec tune`, whole: real runs, from the command to the winner's configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Command

import funrec as package
from funrec.config.compose import compose
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.tuning.plan import make_plan
from funrec.tuning.results import outcomes
from funrec.tuning.study import StudyFolder
from funrec.tuning.trial import work_on

pytestmark = pytest.mark.slow

SMALL = ("model=shared_bottom", "dataset.rows=2000", "trainer=smoke")
RATE = "optimizer.learning_rate"


def studies(folder: Path) -> list[Path]:
    return sorted(folder.glob("outputs/studies/*/study.json"))


def only_study(folder: Path) -> Path:
    (found,) = studies(folder)
    return found.parent


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[package.Study]:
    """A study of four trials, one of which cannot be trained, and of two objectives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tuned"))
        study = package.tune(
            "shared_bottom",
            *SMALL[1:],
            "search.space=null",
            "search.trials=4",
            "search.sampler=grid",
            "search.objectives=[auc_is_click,auc_is_like]",
            f"search.space.{RATE}={{choices: [0.003, 1e30]}}",
            "search.space.model.embedding_l2={choices: [0.0, 5.0]}",
        )
        yield package.Study(study.path.resolve(), study.summary)


def test_every_trial_is_an_ordinary_run(tuned: package.Study) -> None:
    assert len(run_folder.find_runs(tuned.path)) == 4
    frame = tuned.trials()
    done = frame[frame.state == "finished"]
    assert len(done) == 2
    for number in done.trial:
        run = package.load_run(tuned.path / str(number))
        overrides = run.record["overrides"]
        config = compose(overrides) | {"baselines": None}
        assert {**run.record["config"], "baselines": None} == config
        assert (tuned.path / str(number) / "funrec.log").stat().st_size
    assert list(package.compare(tuned.path)["model"]) == ["shared_bottom"] * 2


def test_trial_0_is_the_run_that_nobody_tuned(tuned: package.Study) -> None:
    assert tuned.start.record["overrides"] == list(SMALL)
    assert tuned.start.record["selected_on"] is None
    others = [
        package.load_run(tuned.path / str(number)) for number in tuned.trials().trial[1:] if number_done(tuned, number)
    ]
    assert [run.record["selected_on"] for run in others] == ["valid"]


def number_done(study: package.Study, number: int) -> bool:
    return run_folder.is_finished(study.path / str(number))


def test_a_trial_that_diverges_has_failed_and_the_study_goes_on(tuned: package.Study) -> None:
    failed = tuned.trials()[lambda frame: frame.state == "failed"]
    assert len(failed) == 2
    assert all("should stay finite" in reason for reason in failed.reason)
    assert tuned.summary.count(" failed: The loss of") == 2
    assert "Traceback" in (tuned.path / str(failed.trial.iloc[0]) / "funrec.log").read_text()


def test_the_summary_says_how_far_the_winner_is_from_the_start(tuned: package.Study) -> None:
    assert "0 (start)" in tuned.summary
    assert "Pareto set:" in tuned.summary
    assert ("of these trained models" in tuned.summary) or ("No trial did better" in tuned.summary)


def test_the_winner_runs_again_to_the_last_digit(
    tuned: package.Study, funrec: Command, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = funrec("run", "--config-dir", str(tuned.path / "best"), "experiment=best")
    assert done.code == 0, done.err
    (path,) = run_folder.find_runs(workdir)
    again, best = package.load_run(path).record, tuned.best.record
    assert again["config"] == best["config"]
    assert again["metrics"] == best["metrics"]
    assert again["selected_on"] == best["selected_on"]
    head = (tuned.path / "best" / "experiment" / "best.yaml").read_text()
    assert head.startswith("# @package _global_\n# Trial ")


def test_a_study_that_is_done_is_summed_up_again(tuned: package.Study, funrec: Command, workdir: Path) -> None:
    before = tuned.trials()
    done = funrec("tune", "--join", str(tuned.path))
    assert done.code == 0, done.err
    assert "0 (start)" in done.out
    assert tuned.trials().equals(before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"search.space.{RATE}.choices=[0.003, 0.01]"], f"space.{RATE}.choices was [0.003, 1e+30], is [0.003, 0.01]"),
        (["search.objectives=[auc_is_like]"], "objectives.auc_is_click was"),
        (["model.tower_units=[8]"], "model.tower_units was [32], is [8]"),
        (["search.trials=0"], "search.trials should be a positive whole number"),
    ],
)
def test_a_study_is_not_joined_with_other_settings(
    tuned: package.Study, funrec: Command, workdir: Path, overrides: list[str], message: str
) -> None:
    done = funrec("tune", "--join", str(tuned.path), *overrides)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_folder_without_a_study_is_not_joined(funrec: Command, workdir: Path) -> None:
    done = funrec("tune", "--join", str(workdir))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "should be the folder of a study" in done.err


@pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state")
def test_a_trial_that_runs_out_of_memory_has_failed(workdir: Path) -> None:
    plan = make_plan(
        [
            *(*SMALL, "search.space=null", "search.sampler=grid"),
            f"search.space.{RATE}={{choices: [0.003]}}",
            "search.space.model.tower_units={choices: [[32], [1000, 1000000000000]]}",  # 12 PB
        ]
    )
    study = StudyFolder.create(workdir, plan)
    work_on(study)
    assert [(outcome.state, outcome.reason) for outcome in outcomes(study)] == [
        ("finished", ""),
        ("failed", "out of memory"),
    ]


def test_a_configuration_that_cannot_be_run_stops_the_study(funrec: Command, workdir: Path) -> None:
    done = funrec("tune", "model=shared_bottom", "trainer=smoke", "dataset.rows=3", "search.trials=2")
    assert done.code == 2
    assert done.err.splitlines()[-2].startswith("Go on with: funrec resume")
    assert [outcome.state for outcome in outcomes(StudyFolder(only_study(workdir)))] == ["running"]


def test_bad_input_leaves_no_study_behind(funrec: Command, workdir: Path) -> None:
    done = funrec("tune", *SMALL, "search.objectives=[auc_clik]")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert studies(workdir) == []


def test_a_pruned_trial_is_shown_as_such(funrec: Command, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funrec.tuning.study.CURVES_TO_COMPARE", 1)
    done = funrec(
        *("tune", *SMALL, "search.space=null", "trainer.epochs=2", "search.pruner=median", "search.trials=2"),
        *(
            "search.sampler=grid",
            f"search.space.{RATE}={{choices: [0.003, 1e-7]}}",
            "search.space.model.embedding_l2={choices: [0.0]}",
        ),
    )
    assert done.code == 0, done.err
    assert "trial 1: pruned" in done.err
    assert "1 finished, 1 pruned." in done.out
    assert "No trial did better than the configuration as it was." in done.out
    study = StudyFolder(only_study(workdir))
    assert run_folder.status(study.folder(1)).state == "pruned"
    assert [outcome.epochs for outcome in outcomes(study)] == [2, 1]
    best = yaml.safe_load((study.path / "best" / "experiment" / "best.yaml").read_text())
    assert best["tuned_on"] is None


def test_ctrl_c_says_how_to_go_on_and_the_study_ends_as_if_undisturbed(funrec: Command, workdir: Path) -> None:
    training = [*SMALL, "trainer.epochs=15", "trainer.patience=null"]
    process = start(workdir, "tune", *training, "search.trials=1")
    wait_for(lambda: is_begun(workdir, 0), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    study = only_study(workdir)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].endswith(f"funrec resume {study.relative_to(workdir)}")
    assert run_folder.status(study / "0").state == "interrupted"
    assert funrec("resume", str(study)).code == 0
    kept = ("overrides", "config", "metrics", "best_epoch", "selected_on")
    ended, undisturbed = record.read(study / "0"), package.run_experiment(*training).record
    assert {key: ended[key] for key in kept} == {key: undisturbed[key] for key in kept}


@pytest.mark.exhaustive  # a drill of half a minute
def test_a_study_outlives_its_workers_and_their_parent(funrec: Command, workdir: Path) -> None:
    process = start(
        workdir, "tune", *SMALL, "trainer.epochs=30", "trainer.patience=null", "search.trials=2", "search.workers=2"
    )
    wait_for(lambda: is_begun(workdir, 0) and is_begun(workdir, 1), process)
    first, other = workers_of(process.pid)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(set(workers_of(process.pid)) - {first, other}) == 1, process)  # another takes its place
    workers = workers_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(is_alive(worker) for worker in workers))
    study = only_study(workdir)
    assert all(run_folder.status(place.parent).state != "running" for place in study.glob("*/.lock"))
    done = funrec("resume", str(study))
    assert done.code == 0, done.err
    found = outcomes(StudyFolder(study))
    assert [outcome.state for outcome in found] == ["finished"] * 2
    assert max(outcome.attempts for outcome in found) >= 2


def test_a_fresh_seed_of_the_winner_and_of_the_start_is_compared(funrec: Command, workdir: Path) -> None:
    done = funrec(
        *("tune", *SMALL, "search.space=null", "search.trials=2", "search.sampler=grid", "search.confirm=1"),
        *(f"search.space.{RATE}={{choices: [1e-7]}}", "search.space.model.embedding_l2={choices: [0.0]}"),
        "search.objectives={log_loss_is_click: max}",  # which the one that learns nothing wins
    )
    assert done.code == 0, done.err
    assert "Trial 1 against trial 0" in done.out
    assert "1 fresh seed each" in done.out
    assert done.out.count("mark (trained models)") == 2
    place = only_study(workdir).with_name(f"{only_study(workdir).name}_confirm")
    runs = [package.load_run(path).record for path in run_folder.find_runs(place)]
    assert [(run["seed"], run["config"]["tuned_on"]) for run in runs] == [(1, None), (1, "valid")]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "funrec.cli.main", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def is_begun(folder: Path, number: int) -> bool:
    return bool(list(folder.glob(f"outputs/studies/*/{number}/.lock")))


def wait_for(is_so: Any, process: subprocess.Popen[str] | None = None, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, process.communicate()[1] if process else ""
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """Return the processes that were forked for a study's leading process."""
    return [worker for helper in children(pid) for worker in children(helper)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"  # Z: dead, but not yet buried
    except OSError:
        return False
