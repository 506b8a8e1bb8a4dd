"""What every weighting must do, found by the files in `conf/weighting`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from weightings import CONF, NAMES, kind, make

from funrec.schema import Task
from funrec.weighting.base import Statistics, Weighting

TASKS = (Task("a"), Task("b"), Task("c", kind="regression"))
#: Schemes that weigh tasks by chance, by their past, or by what a task is.
WITH_MEMORY = {"uncertainty", "dwa", "famo", "gradnorm", "gradvac", "db_mtl"}
RANDOM = {"rlw", "pcgrad", "gradvac"}
KEY = tf.constant([1, 2])


GRAMIAN_SCHEMES = [name for name in NAMES if kind(name).needs == "gramian"]


def random_gramian(seed: int, tasks: int = 3) -> np.ndarray:
    gradients = np.random.default_rng(seed).normal(size=(tasks, 8)) * np.array([1, 3, 0.3])[:tasks, None]
    return (gradients @ gradients.T).astype(np.float32)


def step(
    weighting: Weighting,
    losses: Any,
    gramian: np.ndarray | None = None,
    state: Any = None,
    active: Any = None,
) -> tuple[np.ndarray, dict[str, tf.Tensor]]:
    """Take one step, the look after the update included."""
    state = weighting.initial_state() if state is None else state
    losses = tf.constant(losses, tf.float32)
    active = None if active is None else tf.constant(active)
    known = tf.constant(gramian) if weighting.needs == "gramian" else None
    weights, state = weighting.weights(Statistics(losses, KEY, known, active), state)
    if weighting.reads_losses_after:
        state = weighting.after_step(losses**1.2, state, active)
    return weights.numpy(), state


def train_a_little(weighting: Weighting, losses: Any, gramian: np.ndarray, active: Any = None) -> Any:
    """Take a few steps over three epochs and return the last weights and state."""
    state = weighting.initial_state()
    for epoch in range(3):
        for _ in range(2):
            weights, state = step(weighting, losses, gramian, state, active)
        state = weighting.end_epoch(tf.constant(losses, tf.float32) * 0.9**epoch, state)
    return weights, state


def test_the_files_are_found() -> None:
    assert {"fixed", "uncertainty", "dwa", "rlw", "gls", "stch", "famo"} <= set(NAMES)
    assert {"gradnorm", "mgda", "pcgrad", "upgrad"} <= set(GRAMIAN_SCHEMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_says_where_it_is_from_what_it_reads_and_what_it_costs(name: str) -> None:
    first = (CONF / f"{name}.yaml").read_text().splitlines()[0]
    assert "Reads: " in first and "Cost: " in first
    assert make(name, TASKS).paper.split(",")[0].split(" et al")[0] in first


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_finite_and_the_state_keeps_its_shape(name: str) -> None:
    weighting = make(name, TASKS)
    weights, state = train_a_little(weighting, [0.7, 0.2, 3.0], random_gramian(0))
    assert weights.shape == (3,) and weights.dtype == np.float32
    assert np.isfinite(weights).all() and np.abs(weights).max() > 0
    before = weighting.initial_state()
    assert state.keys() == before.keys()
    for key, value in state.items():
        assert value.shape == before[key].shape and value.dtype == before[key].dtype
        assert np.isfinite(value.numpy()).all()


@pytest.mark.parametrize("name", NAMES)
def test_tasks_that_are_alike_get_equal_weights(name: str) -> None:
    tasks = tuple(Task(task) for task in "abc")
    gradient = np.ones((3, 1), np.float32)
    weights, _ = step(make(name, tasks), [0.5, 0.5, 0.5], gradient @ gradient.T)
    if name != "rlw":
        np.testing.assert_allclose(weights, weights[0], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(NAMES) - RANDOM))
def test_permuting_tasks_permutes_weights(name: str) -> None:
    tasks = tuple(Task(task) for task in "abc")
    losses, gramian = np.array([0.7, 0.2, 0.4]), random_gramian(1)
    weights, _ = train_a_little(make(name, tasks), losses, gramian)
    for index in ([1, 2, 0], [1, 0, 2]):  # which make all others
        again, _ = train_a_little(make(name, tasks), losses[index], gramian[np.ix_(index, index)])
        np.testing.assert_allclose(again, weights[index], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_rows_drops_out_of_the_step(name: str) -> None:
    tasks = tuple(Task(task) for task in "abc")
    losses, gramian = np.array([0.7, 0.2, 0.4]), random_gramian(2)
    absent = np.array([0.7, 0.0, 0.4])
    without = gramian * np.outer(absent > 0, absent > 0)
    two = [0, 2]
    active = [True, False, True]
    weights, state = step(make(name, tasks), absent, without.astype(np.float32), active=active)
    alone, _ = step(make(name, (tasks[0], tasks[2])), losses[two], gramian[np.ix_(two, two)])
    assert np.isfinite(weights).all()
    for key, value in state.items():
        assert np.isfinite(value.numpy()).all(), key
    if name not in RANDOM | {"stch", "fixed"}:  # whose weights count all tasks there are, or draw for them
        np.testing.assert_allclose(weights[two], alone, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_any_valid_row_leaves_no_nan_behind(name: str) -> None:
    weighting = make(name, TASKS)
    weights, state = train_a_little(weighting, [0.0, 0.0, 0.0], np.zeros((3, 3), np.float32), active=[False] * 3)
    assert np.isfinite(weights).all()
    assert all(np.isfinite(value.numpy()).all() for value in state.values())


@pytest.mark.slow
@pytest.mark.parametrize("active", [None, [True, True, False]])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_a_graph_gives_what_it_gives_outside(name: str, active: list[bool] | None) -> None:
    weighting, losses, gramian = make(name, TASKS), tf.constant([0.7, 0.2, 3.0]), tf.constant(random_gramian(3))
    known = gramian if weighting.needs == "gramian" else None
    known_active = None if active is None else tf.constant(active)

    @tf.function
    def two_steps(losses: tf.Tensor, state: dict[str, tf.Tensor]) -> tf.Tensor:
        total = tf.zeros_like(losses)
        for _ in tf.range(2):  # in a loop, as in training, where shapes must hold
            weights, _ = weighting.weights(Statistics(losses, KEY, known, known_active), state)
            total += weights
        return total / 2

    inside = two_steps(losses, weighting.initial_state())
    outside, _ = weighting.weights(Statistics(losses, KEY, known, known_active), weighting.initial_state())
    np.testing.assert_allclose(inside, outside, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(GRAMIAN_SCHEMES) - WITH_MEMORY))
def test_gradients_that_are_not_numbers_end_in_even_weights_and_are_counted(name: str) -> None:
    broken = random_gramian(4)
    broken[0, 1] = broken[1, 0] = np.nan
    weights, state = step(make(name, TASKS), [0.7, 0.2, 3.0], broken)
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)
    assert int(state["fallbacks"]) == 1
    _, state = step(make(name, TASKS), [0.7, 0.2, 3.0], random_gramian(4), state)
    assert int(state["fallbacks"]) == 1


@pytest.mark.parametrize("name", ["mgda", "upgrad"])
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_no_task_is_at_odds_with_the_direction(name: str, tasks: int) -> None:
    weighting = make(name, tuple(Task(f"task_{i}") for i in range(tasks)))
    for seed in range(20):
        gradients = np.random.default_rng(seed).normal(size=(tasks, 6)) - 0.3
        gramian = (gradients @ gradients.T).astype(np.float32)
        weights, _ = step(weighting, np.ones(tasks), gramian)
        assert (gramian @ weights).min() > -1e-4 * np.trace(gramian)


@pytest.mark.parametrize("name", GRAMIAN_SCHEMES)
@pytest.mark.parametrize("shared", ["representation", "last_shared_layer", "all_shared"])
def test_gradients_can_be_taken_anywhere(name: str, shared: str) -> None:
    assert make(name, TASKS, f"weighting.shared={shared}").shared == shared
