"""The average of weights is the mean of its snapshots, and training goes on from the weights as they were."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from funrec.training.averaging import WeightAverage


@pytest.fixture
def variable() -> keras.Variable:
    return keras.Variable(np.zeros((3, 2), np.float32))


def test_it_is_the_mean_of_the_snapshots_and_then_gone(variable: keras.Variable) -> None:
    average = WeightAverage([variable], steps=4, snapshots=3)
    for values in ([1.0, 2.0, 6.0], [10.0, 20.0]):
        for value in values:
            variable.assign(np.full((3, 2), value))
            average.take_snapshot()
        average.apply()
        np.testing.assert_allclose(variable.numpy(), np.full((3, 2), np.mean(values)))
        average.restore()
        np.testing.assert_array_equal(variable.numpy(), np.full((3, 2), values[-1]))


def test_training_between_snapshots_does_not_change_those_taken(variable: keras.Variable) -> None:
    average = WeightAverage([variable], steps=4, snapshots=2)
    average.take_snapshot()
    variable.assign_add(np.ones((3, 2)))
    average.take_snapshot()
    average.apply()
    np.testing.assert_allclose(variable.numpy(), np.full((3, 2), 0.5))


@pytest.mark.parametrize(
    ("steps", "snapshots", "expected"),
    [(50, 5, [160, 170, 180, 190, 200]), (3, 10, [198, 199, 200]), (1000, 4, [125, 150, 175, 200]), (1, 1, [200])],
)
def test_snapshots_are_spread_over_the_last_steps_and_end_with_the_last(
    steps: int, snapshots: int, expected: list[int]
) -> None:
    assert WeightAverage([], steps, snapshots).snapshot_steps(100, 200) == expected
