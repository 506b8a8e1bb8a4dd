"""When a training is written down, what that may cost, and that what is written is what was."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from examples import model, planted_rows, weighting

from funrec.training.batches import BatchStream
from funrec.training.checkpoints import (
    SMALL_BYTES,
    WEIGHTS,
    BackgroundWriter,
    CheckpointFile,
    Checkpoints,
    weights_epoch,
)
from funrec.training.optimizers import LazyAdam, WeightAverage
from funrec.training.progress import EpochTotals
from funrec.training.state import Session, TrainingState, copy_to_host
from funrec.training.step import TrainingStep
from funrec.utils.errors import InputError
from funrec.utils.files import read_arrays, read_notes


def session(average_steps: int = 0) -> Session:
    built = model()
    step = TrainingStep(built, weighting(), LazyAdam(0.01), seed=0)
    average = WeightAverage(built.weights, average_steps, 2)
    return Session(step, average, TrainingState(3, 30, EpochTotals(["click", "like"])))


def train(step: TrainingStep, first: int = 0, steps: int = 1) -> None:
    rows = planted_rows(lambda ids: (0 * ids[:, 0] + 0.5,) * 2, rows=600)
    stream = BatchStream(rows, step.model.layout, 100, seed=0)
    step.run(stream.block(first, steps), tf.constant(first, tf.int64))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [LazyAdam, keras.optimizers.Adam, keras.optimizers.Adagrad, keras.optimizers.SGD])
def test_copies_stay_as_they_are_while_training_goes_on(optimizer: type[keras.optimizers.Optimizer]) -> None:
    built = model()
    step = TrainingStep(built, weighting(), optimizer(0.05), seed=0)
    train(step)
    variables = [*built.weights, *step.optimizer.variables]
    copies = copy_to_host(variables)
    expected = [variable.numpy().copy() for variable in variables]
    train(step, 1, 5)
    for copy, value in zip(copies, expected, strict=True):
        np.testing.assert_array_equal(copy, value)
    assert sum((variable.numpy() != value).any() for variable, value in zip(variables, expected, strict=True)) > 5


def test_everything_that_training_changes_comes_back(tmp_path: Path) -> None:
    first, second = session(average_steps=4), session(average_steps=4)
    train(first.step, steps=3)
    first.average.take_snapshot()
    first.state.totals.add({"losses": np.full((3, 2), 1 / 3), "weights": np.ones((3, 2))}, seconds=0.1)
    first.state.step = 3
    file = CheckpointFile(tmp_path / "checkpoint.npz", {"code": "x"})
    with Checkpoints(file, tmp_path / "model") as checkpoints:
        checkpoints.save_now(first)
    assert read_notes(file.path)["origin"] == {"code": "x"}
    with Checkpoints(file, tmp_path / "model") as checkpoints:
        checkpoints.restore(second)
    assert second.state.to_plain() == first.state.to_plain() | {"resumed_at": [3]}
    for found, expected in zip(second.arrays().items(), first.arrays().items(), strict=True):
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])


def test_without_a_file_only_the_best_weights_are_written(tmp_path: Path) -> None:
    current = session()
    with Checkpoints(None, tmp_path) as checkpoints:
        checkpoints.restore(current)
        current.state.epoch = 2
        checkpoints.save_epoch(current, copy_to_host(current.step.model.weights))
        checkpoints.save_now(current)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert weights_epoch(tmp_path) == 2


@pytest.mark.parametrize("average_steps", [0, 4])
def test_the_best_weights_are_those_that_were_validated_and_training_goes_on_from_its_own(
    average_steps: int, tmp_path: Path
) -> None:
    current = session(average_steps)
    weights = copy_to_host(current.step.model.weights)
    validated = [array + 1 for array in weights] if average_steps else weights
    file = CheckpointFile(tmp_path / "checkpoint.npz")
    with Checkpoints(file, tmp_path / "model") as checkpoints:
        checkpoints.save_epoch(current, validated)
    saved = read_arrays(tmp_path / "model" / WEIGHTS)
    kept = read_arrays(file.path)
    for place, array in enumerate(weights):
        np.testing.assert_array_equal(kept[f"weights/{place}"], array)
        np.testing.assert_array_equal(saved[str(place)], validated[place])


class Large(Session):
    """A training that says it is of a gigabyte."""

    @property
    def size(self) -> int:
        return 1 << 30


def large() -> Session:
    small = session()
    return Large(small.step, small.average, small.state)


def test_a_checkpoint_that_costs_too_much_waits_until_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("funrec.training.checkpoints.time.monotonic", lambda: now[0])
    file, current = CheckpointFile(tmp_path / "checkpoint.npz"), large()
    with Checkpoints(file, tmp_path / "model", minutes=0.1) as checkpoints:
        now[0] = 10.0  # a gigabyte is taken to cost about a second, which is 3% of 36
        checkpoints.save_if_due(current)
        checkpoints.save_epoch(current, None)
        checkpoints.wait()
        assert not file.path.exists()
        now[0] = 40.0
        checkpoints.save_epoch(current, None, is_last=True)  # with nothing to do meanwhile, it is five times that
        checkpoints.wait()
        assert not file.path.exists()
        checkpoints.save_if_due(current)
        checkpoints.wait()
        assert file.path.exists()
        file.path.unlink()
        now[0] = 44.0  # it was found to cost next to nothing, but it is not time yet
        checkpoints.save_if_due(current)
        checkpoints.wait()
        assert not file.path.exists()
        now[0] = 47.0
        checkpoints.save_if_due(current)
        checkpoints.wait()
        assert file.path.exists()


def test_a_small_one_is_written_after_every_epoch_and_a_wanted_one_always(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint.npz")
    with Checkpoints(file, tmp_path / "model") as checkpoints:
        assert session().size < SMALL_BYTES
        for current, is_wanted in ((session(), False), (large(), True)):
            checkpoints.save_epoch(current, None, is_wanted=is_wanted)
            checkpoints.wait()
            assert file.path.exists()
            file.path.unlink()
        checkpoints.save_if_due(session())  # no minutes, none within an epoch
        checkpoints.wait()
        assert not file.path.exists()


def test_what_the_disk_says_comes_out_at_the_next_edge_and_at_the_end(tmp_path: Path) -> None:
    current = session()
    file = CheckpointFile(tmp_path / "nowhere" / "checkpoint.npz")
    with pytest.raises(InputError, match="cannot be written"), Checkpoints(file, tmp_path, 5.0) as checkpoints:
        checkpoints.save_epoch(current, None, is_wanted=True)
        for _ in range(1000):
            checkpoints.save_if_due(current)
            time.sleep(0.01)
        pytest.fail("nothing was said")
    with pytest.raises(InputError, match="cannot be written"), Checkpoints(file, tmp_path) as checkpoints:
        checkpoints.save_epoch(current, None, is_wanted=True)


def test_the_first_error_is_the_one_that_is_told(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "nowhere" / "checkpoint.npz")
    with pytest.raises(ZeroDivisionError), Checkpoints(file, tmp_path) as checkpoints:
        checkpoints.save_epoch(session(), None, is_wanted=True)
        raise ZeroDivisionError


def test_work_is_done_one_at_a_time_and_given_up_when_it_is_not_wanted() -> None:
    writer, done = BackgroundWriter(), []
    go_on = threading.Event()

    def first(is_cancelled: Any) -> None:
        go_on.wait(10)
        done.append("first")

    def endless(is_cancelled: Any) -> None:
        while not is_cancelled():
            time.sleep(0.001)
        done.append("given up")

    writer.start(first)
    assert writer.is_busy
    go_on.set()
    writer.start(endless)
    assert done == ["first"]
    writer.cancel()
    assert done == ["first", "given up"]
    assert not writer.is_busy
