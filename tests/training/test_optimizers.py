"""Lazy Adam: Adam for dense weights, and for embedding rows an Adam that only counts the steps that touch them.

The average of weights is the mean of its snapshots, and training goes on from the weights as they were.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from funrec.config.build import build
from funrec.training.optimizers import LazyAdam, WeightAverage
from funrec.utils.errors import InputError

RATE, BETA_1, BETA_2, EPSILON = 0.05, 0.9, 0.99, 1e-7
ROWS, WIDTH = 9, 3


def lazy(**options: object) -> LazyAdam:
    return LazyAdam(**{"learning_rate": RATE, "beta_1": BETA_1, "beta_2": BETA_2, "epsilon": EPSILON, **options})


def sparse_gradients(steps: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return indices with repeats, and values, per step; the last row is never touched."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(0, ROWS - 1, 5), draw.normal(size=(5, WIDTH)).astype(np.float32)) for _ in range(steps)]


def start(shape: tuple[int, ...] = (ROWS, WIDTH)) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_dense_weights_get_the_update_of_keras_adam() -> None:
    shapes = [(4, 3), (3,), (2, 4, 3)]
    ours, theirs = ([keras.Variable(start(shape)) for shape in shapes] for _ in range(2))
    optimizers = lazy(), keras.optimizers.Adam(RATE, BETA_1, BETA_2, EPSILON)
    for step in range(20):
        gradients = [tf.constant(np.random.default_rng(step).normal(size=shape), tf.float32) for shape in shapes]
        for optimizer, variables in zip(optimizers, (ours, theirs), strict=True):
            optimizer.apply(gradients, variables)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=1e-5, atol=1e-6)
        assert np.abs(our.numpy() - start(our.shape)).max() > 0.1


def test_rows_get_an_adam_of_their_own_with_repeats_summed() -> None:
    table, optimizer = keras.Variable(start()), lazy()
    weights = start().astype(np.float64)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step, (rows, values) in enumerate(sparse_gradients(20), start=1):
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows))], [table])
        for row in set(rows):
            gradient = values[rows == row].sum(axis=0)
            mean[row] = BETA_1 * mean[row] + (1 - BETA_1) * gradient
            square[row] = BETA_2 * square[row] + (1 - BETA_2) * gradient**2
            alpha = RATE * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            weights[row] -= alpha * mean[row] / (np.sqrt(square[row]) + EPSILON)
    np.testing.assert_allclose(table.numpy(), weights, rtol=1e-4, atol=1e-5)


def test_rows_that_no_batch_mentions_keep_weights_and_moments_to_the_bit() -> None:
    table, optimizer = keras.Variable(start()), lazy()
    for rows, values in sparse_gradients(5):
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows))], [table])
    before = [variable.numpy().copy() for variable in (table, *optimizer.variables[2:])]
    rows = np.array([2, 5])
    optimizer.apply([tf.IndexedSlices(tf.ones((2, WIDTH)), tf.constant(rows))], [table])
    after = [variable.numpy() for variable in (table, *optimizer.variables[2:])]
    assert len(after) == 3  # the table and two moments
    others = np.delete(np.arange(ROWS), rows)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[others], old[others])
        assert (new[rows] != old[rows]).all()
    assert not after[1][-1].any()
    np.testing.assert_array_equal(after[0][-1], start()[-1])


def test_a_batch_that_touches_every_row_is_adam_proper() -> None:
    ours, theirs = keras.Variable(start()), keras.Variable(start())
    optimizers = lazy(), keras.optimizers.Adam(RATE, BETA_1, BETA_2, EPSILON)
    for step in range(10):
        values = tf.constant(np.random.default_rng(step).normal(size=(ROWS, WIDTH)), tf.float32)
        optimizers[0].apply([tf.IndexedSlices(values, tf.range(ROWS))], [ours])
        optimizers[1].apply([values], [theirs])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_gradient_of_rows_and_of_dense_weights() -> None:
    dense = tf.fill((ROWS, WIDTH), 100.0)
    for gradient in (dense, tf.IndexedSlices(dense[:2], tf.constant([0, 3]))):
        table, optimizer = keras.Variable(start()), lazy(clipnorm=1.0)
        optimizer.apply([gradient], [table])
        mean = optimizer.variables[2].numpy()
        assert np.linalg.norm(mean / (1 - BETA_1)) == pytest.approx(1.0, rel=1e-4)


def test_it_survives_its_configuration() -> None:
    again = LazyAdam.from_config(lazy(clipnorm=2.0).get_config())
    assert again.get_config() == lazy(clipnorm=2.0).get_config()


@pytest.mark.parametrize(
    "options", [{"beta_1": 1.0}, {"beta_2": -0.1}, {"epsilon": 0.0}, {"clipnorm": -1.0}, {"epsilon": "tiny"}]
)
def test_an_impossible_option_is_refused(options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=rf"^optimizer\.{name} should be .* Received: "):
        build({"_target_": "funrec.training.optimizers.LazyAdam", **options}, keras.optimizers.Optimizer, "optimizer")


@pytest.fixture
def variable() -> keras.Variable:
    return keras.Variable(np.zeros((3, 2), np.float32))


def test_an_average_is_the_mean_of_the_snapshots_and_then_gone(variable: keras.Variable) -> None:
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


def test_a_row_looked_up_once_moves_ten_times_as_far_under_dense_adam() -> None:
    """Dense Adam goes on moving it by its momentum; docs/optimizers.md builds on it."""
    moved = {}
    for optimizer in (LazyAdam(0.001), keras.optimizers.Adam(0.001)):
        table = keras.Variable(np.zeros((2, 1), np.float32))
        optimizer.build([table])
        for step in range(200):
            row = 0 if step == 100 else 1  # row 1 in all other steps
            gradient = tf.IndexedSlices(tf.ones((1, 1)), tf.constant([row]), tf.constant([2, 1]))
            optimizer.apply([gradient], [table])
        moved[type(optimizer).__name__] = table.numpy()[:, 0]
    lazy, dense = moved["LazyAdam"], moved["Adam"]
    assert dense[0] / lazy[0] == pytest.approx(10, rel=0.2)
    assert dense[1] / lazy[1] == pytest.approx(1, rel=0.2)
