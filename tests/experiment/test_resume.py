"""A run that was stopped, however, goes on and ends as if it never had been."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command

import funrec
from funrec.config.compose import compose, save
from funrec.experiment import experiment
from funrec.experiment.run import Run
from funrec.runs.folder import removable, remove, status
from funrec.utils.errors import InputError, Pruned
from funrec.utils.files import read_arrays, read_notes, write_arrays
from funrec.utils.signals import Interrupted

pytestmark = pytest.mark.slow

SMALL = ("model=shared_bottom", "dataset.rows=2000", "trainer=smoke", "trainer.epochs=3", "trainer.steps_per_call=2")
CHECKPOINT = "checkpoint.npz"


def start(folder: Path, *overrides: str, on_epoch: Any = None, **options: Any) -> Run:
    folder.mkdir(exist_ok=True, parents=True)
    asked = [*SMALL, *overrides]
    return experiment.run(compose(asked), folder, asked, on_epoch=on_epoch, **options)


def interrupt_after(epoch: int) -> Callable[[Mapping[str, Any]], None]:
    """Return a hook that presses Ctrl-C at the end of an epoch; training hears of it at the next edge of a block."""

    def press(row: Mapping[str, Any]) -> None:
        if row["epoch"] == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def interrupted(folder: Path, *overrides: str, epoch: int = 1) -> Path:
    with pytest.raises(Interrupted):
        start(folder, *overrides, on_epoch=interrupt_after(epoch))
    return folder


def check_same(run: Run, expected: Run) -> None:
    """Check that two runs have the same table, history, weights and scores, to the last bit."""
    assert run.metrics == expected.metrics
    timing = ["seconds", "rows_per_second"]
    assert run.history().drop(columns=timing).equals(expected.history().drop(columns=timing))
    weights, others = (read_arrays(done.path / "model" / "weights.npz") for done in (run, expected))
    assert weights.keys() == others.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, others[name])
    assert run.predictions().equals(expected.predictions())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def interrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interrupted(tmp_path_factory.mktemp("interrupted") / "run", epoch=2)


@pytest.fixture
def stopped(interrupted_run: Path, tmp_path: Path) -> Path:
    """The folder of a run that was interrupted at the end of its second epoch, to do with as a test likes."""
    return shutil.copytree(interrupted_run, tmp_path / "run")


@pytest.mark.parametrize(
    ("epoch", "overrides"),
    [
        (1, ("weighting=gradnorm", "trainer.average_steps=5", "trainer.average_snapshots=5")),
        (2, ("weighting=dwa", "optimizer=adam", "trainer.learning_rate_decay=null")),
        (1, ("weighting=pcgrad", "model.batch_normalization=true", "trainer.learning_rate_decay=cosine")),
    ],
    ids=["in the midst of an average", "with losses of the epochs before", "with moving statistics"],
)
def test_a_resumed_run_ends_as_one_that_never_stopped(epoch: int, overrides: tuple[str, ...], tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "stopped", *overrides, epoch=epoch)
    assert status(folder).progress.startswith(f"in epoch {epoch + 1} of 3, after step ")
    (run,) = funrec.resume(folder)
    assert len(run.record["resumed_at"]) == 1
    check_same(run, start(tmp_path / "whole", *overrides))


def test_a_run_can_be_stopped_again_and_again(tmp_path: Path, whole: Run) -> None:
    folder = interrupted(tmp_path / "run")
    with pytest.raises(Interrupted):  # the first epoch is told of anew: this stops in the midst of the same epoch
        start(folder, resume=True, on_epoch=interrupt_after(1))
    with pytest.raises(Interrupted):
        start(folder, resume=True, on_epoch=interrupt_after(2))
    (run,) = funrec.resume(folder)
    assert len(run.record["resumed_at"]) == 3
    check_same(run, whole)


def test_a_run_stopped_after_its_last_epoch_goes_on_to_evaluation(tmp_path: Path, whole: Run) -> None:
    folder = interrupted(tmp_path / "run", epoch=3)
    assert status(folder).progress == "after epoch 3 of 3"
    told: list[int] = []
    run = start(folder, resume=True, on_epoch=lambda row: told.append(row["epoch"]))
    assert told == [1, 2, 3]  # a tuner is told of all epochs, also those trained before
    check_same(run, whole)


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    asked = ("trainer.monitor_mode=min", "trainer.patience=1")  # AUC grows: the first epoch is the best
    folder = interrupted(tmp_path / "run", *asked, epoch=2)
    (run,) = funrec.resume(folder)
    assert run.record["best_epoch"] == 1
    check_same(run, start(tmp_path / "whole", *asked))


def test_checkpoints_within_an_epoch_are_gone_on_from(tmp_path: Path, whole: Run) -> None:
    folder = tmp_path / "run"

    def fail(row: Mapping[str, Any]) -> None:
        if row["epoch"] == 2:
            raise RuntimeError("a bug")

    # A model of this size may be written as often as asked; the loop asks at every edge.
    with pytest.raises(RuntimeError):
        start(folder, "trainer.checkpoint_minutes=1e-9", on_epoch=fail)
    assert status(folder).state == "failed"
    assert status(folder).reason == "RuntimeError: a bug"
    check_same(funrec.resume(folder)[0], whole)


# Killed


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
import funrec.experiment.fitting
from test_resume import start

def kill_at(name, number):
    replace, seen = os.replace, []
    def replacing(source, target):
        if Path(target).name == name:
            seen.append(target)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
    os.replace = replacing

for place, (name, number) in enumerate({moments!r}):
    child = os.fork()
    if not child:
        kill_at(name, number)
        start(Path(str(place)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.mark.exhaustive  # a drill of half a minute
def test_a_run_killed_while_it_writes_leaves_nothing_half_and_resumes(workdir: Path, whole: Run) -> None:
    moments = [("weights.npz", 1), ("checkpoint.npz", 2), ("record.json", 1)]
    here = Path(__file__)
    code = KILLED.replace("{moments!r}", repr(moments))
    command = [sys.executable, "-c", code, str(here.parent), str(here.parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    progress = ["", "after epoch 1 of 3", "after epoch 3 of 3"]
    for place, stands in enumerate(progress):
        folder = Path(str(place))
        assert status(folder).state == "interrupted"
        assert status(folder).progress == stands
        assert list(folder.rglob(".*.tmp"))  # what it was writing
        (run,) = funrec.resume(folder)
        check_same(run, whole)
        assert not removable(folder)


# Damaged, or of something else


def log_of(folder: Path) -> str:
    return (folder / "funrec.log").read_text()


@pytest.mark.parametrize("damage", ["a bit flipped", "weights gone", "weights of an epoch before"])
def test_a_damaged_checkpoint_is_named_and_training_starts_over(damage: str, stopped: Path, whole: Run) -> None:
    folder = stopped
    checkpoint, weights = folder / CHECKPOINT, folder / "model" / "weights.npz"
    if damage == "a bit flipped":
        content = bytearray(checkpoint.read_bytes())
        content[len(content) // 2] ^= 1
        checkpoint.write_bytes(content)
    elif damage == "weights gone":
        weights.unlink()
    else:
        write_arrays(weights, read_arrays(weights) | {"epoch": np.asarray(1)})
    (run,) = funrec.resume(folder)
    assert run.record["resumed_at"] == []
    check_same(run, whole)
    (line,) = (line for line in log_of(folder).splitlines() if "starts over" in line)
    assert "checkpoint.npz is damaged" in line or "should hold the weights of epoch 2" in line


def test_another_configuration_is_refused_with_what_differs_and_the_run_stays_as_it_was(stopped: Path) -> None:
    folder = stopped
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(
        InputError, match=r"Changed since: optimizer\.learning_rate was 0\.003 and is 0\.002\. .*--force"
    ):
        start(folder, "optimizer.learning_rate=0.002", resume=True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert start(folder, "optimizer.learning_rate=0.002", resume=True, force=True).record["resumed_at"]


def test_other_code_data_or_libraries_are_refused(stopped: Path) -> None:
    folder = stopped
    path = folder / CHECKPOINT
    notes, arrays = read_notes(path), read_arrays(path)
    for changes, said in (
        ({"code": "another"}, "funrec's code has changed"),
        ({"data": "another"}, "the raw files have changed"),
        ({"versions": {**notes["origin"]["versions"], "keras": "1.0"}}, "keras was 1.0 and is 3"),
    ):
        write_arrays(path, arrays, {**notes, "origin": notes["origin"] | changes})
        with pytest.raises(InputError, match="should be resumed as it began, in epoch 3") as refused:
            funrec.resume(folder)
        assert f"Changed since: {said}" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert status(folder).state == "interrupted"
    (run,) = funrec.resume(folder, force=True)
    assert run.record["resumed_at"]
    assert "Resuming although this has changed: keras was 1.0" in log_of(folder)


def test_what_does_not_change_the_training_may_change(stopped: Path) -> None:
    assert start(stopped, "report.gates=true", "trainer.keep=all", "trainer.checkpoint_minutes=1", resume=True)


def test_a_model_of_another_shape_is_refused_even_by_force(stopped: Path) -> None:
    with pytest.raises(InputError, match="should be of this model"):
        start(stopped, "model.tower_units=[7]", resume=True, force=True)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=rf"{folder} should be a run's folder"):
            funrec.resume(folder)


def test_a_run_that_is_not_resumed_starts_over(stopped: Path, whole: Run) -> None:
    run = start(stopped)
    assert run.record["resumed_at"] == []
    check_same(run, whole)


# With baselines


def test_a_run_resumes_its_baselines_and_keeps_what_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = [*SMALL, "trainer.epochs=1", "baselines=true"]
    folder.mkdir()
    config = compose(asked)
    save(config, asked, folder / ".hydra")
    alone = start(folder, "trainer.epochs=1")
    save(config, asked, folder / ".hydra")
    runs = funrec.resume(folder)
    assert [run.record["label"] for run in runs] == ["shared_bottom", "logistic", "popularity", "single_task", "gbdt"]
    assert runs[0].record["finished"] == alone.record["finished"]
    (runs[2].path / "record.json").unlink()
    again = funrec.resume(folder)
    assert [run.path for run in again] == [run.path for run in runs]
    for place in (0, 1, 3):
        assert again[place].record["finished"] == runs[place].record["finished"]
    assert again[2].metrics == runs[2].metrics


# What is kept


def arrays_of(run: Run) -> set[str]:
    return {str(path.relative_to(run.path)) for path in run.path.rglob("*.npz")}


def test_a_finished_run_keeps_its_best_weights_unless_told_otherwise(whole: Run, tmp_path: Path) -> None:
    assert arrays_of(whole) == {"model/weights.npz"}
    assert removable(whole.path) == []
    assert whole.model()
    run = start(tmp_path / "run", "trainer.keep=none")
    assert arrays_of(run) == set()
    with pytest.raises(InputError, match=r"weights\.npz: no such file.*trainer\.keep=best"):
        run.model()


def test_an_unknown_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trainer\.keep should be one of best, all, none\. Received: some\."):
        start(tmp_path / "run", "trainer.keep=some")


def test_what_a_crash_after_the_record_left_can_be_cleaned(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "trainer.keep=all")
    assert arrays_of(run) == {"model/weights.npz", CHECKPOINT}
    assert read_notes(run.path / CHECKPOINT)["position"] == "after epoch 3 of 3"
    assert removable(run.path) == []
    record = run.path / "record.json"
    record.write_text(record.read_text().replace('"keep": "all"', '"keep": "best"'))
    (run.path / "model" / ".weights.npz.1.tmp").write_text("half")
    found = removable(tmp_path)
    assert {path.name for path in found} == {CHECKPOINT, ".weights.npz.1.tmp"}
    assert remove(found) == found
    assert removable(tmp_path) == []
    assert run.model()


# Pruned


def test_a_pruned_run_says_so_and_is_no_failure(tmp_path: Path) -> None:
    def prune(row: Mapping[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Pruned

    folder = tmp_path / "run"
    with pytest.raises(Pruned):
        start(folder, on_epoch=prune)
    assert status(folder).state == "pruned"
    assert status(folder).reason == "pruned at epoch 2"
    assert not list(folder.rglob("*.npz"))
    assert removable(folder) == []


# Signals


def test_a_signal_while_data_is_prepared_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(experiment, "prepare", prepare)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match=r"It has no checkpoint\. To start over: funrec resume .*/run$"):
        start(tmp_path / "run")
    assert status(tmp_path / "run").state == "interrupted"
    assert not (tmp_path / "run" / "failure.json").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_stops_now(tmp_path: Path) -> None:
    seen: list[int] = []

    def press(row: Mapping[str, Any]) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            seen.append(row["epoch"])

    with pytest.raises(Interrupted):
        start(tmp_path / "run", on_epoch=press)
    assert seen == [1]
    assert status(tmp_path / "run").progress in ("after epoch 1 of 3", "")  # the thread may not have been done


def test_the_command_says_how_to_go_on_and_exits_130(
    workdir: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = experiment.run

    def run(*arguments: Any, **options: Any) -> Run:
        return real(*arguments, **{**options, "on_epoch": interrupt_after(1)})

    monkeypatch.setattr(experiment, "run", run)
    done = funrec("run", *SMALL, "hydra.run.dir=a run")
    monkeypatch.undo()
    assert done.code == 130
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("funrec: Interrupted. Its checkpoint stands in epoch 2 of 3, after step ")
    assert last.endswith(f"To go on: funrec resume '{workdir / 'a run'}'")


# A full disk


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_for_a_checkpoint_says_so_and_the_run_resumes(tmp_path: Path, whole: Run) -> None:
    folder = tmp_path / "run"
    limit = (whole.path / "model" / "weights.npz").stat().st_size + 1000  # a checkpoint is three times that
    with no_file_above(limit), pytest.raises(InputError, match=r"checkpoint\.npz cannot be written") as full:
        start(folder)
    assert "\n" not in str(full.value)
    assert status(folder).state == "failed"
    assert not list(folder.rglob(".*.tmp"))
    check_same(funrec.resume(folder)[0], whole)


def test_a_disk_that_fills_up_later_leaves_the_last_checkpoint_whole(stopped: Path, whole: Run) -> None:
    folder = stopped
    stands = status(folder).progress
    with no_file_above(5000), pytest.raises(InputError, match="cannot be written"):
        start(folder, resume=True)
    assert status(folder).state == "failed"
    assert status(folder).progress == stands
    check_same(funrec.resume(folder)[0], whole)


def test_cleaning_knows_every_file_that_a_run_writes(stopped: Path) -> None:
    assert removable(stopped.parent) == [stopped]
