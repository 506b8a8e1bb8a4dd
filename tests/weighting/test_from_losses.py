"""The schemes that read losses, against their papers' formulas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from funrec.schema import Task
from funrec.weighting.base import State, Statistics, Weighting
from funrec.weighting.dwa import DynamicWeightAverage
from funrec.weighting.famo import FAMO
from funrec.weighting.fixed import Fixed
from funrec.weighting.gls import GeometricLoss
from funrec.weighting.rlw import RandomLossWeighting
from funrec.weighting.stch import SmoothTchebycheff
from funrec.weighting.uncertainty import Uncertainty

TASKS = (Task("click", weight=2.0), Task("watch", kind="regression"))
KEY = tf.constant([0, 1])


def configured(weighting: Weighting, tasks: Sequence[Task] = TASKS) -> tuple[Weighting, State]:
    weighting.configure(tasks)
    return weighting, weighting.initial_state()


def weigh(weighting: Weighting, losses: Sequence[float], state: State) -> tuple[np.ndarray, State]:
    weights, state = weighting.weights(Statistics(tf.constant(losses, tf.float32), KEY), state)
    return weights.numpy(), state


def test_fixed_weights_are_the_tasks_own_unless_named() -> None:
    assert weigh(*_arguments(Fixed()))[0].tolist() == [2.0, 1.0]
    assert weigh(*_arguments(Fixed({"watch": 5})))[0].tolist() == [2.0, 5.0]
    assert weigh(*_arguments(Fixed({"click": 0})))[0].tolist() == [0.0, 1.0]


def _arguments(weighting: Weighting) -> tuple[Weighting, list[float], State]:
    made, state = configured(weighting)
    return made, [0.5, 0.5], state


def test_uncertainty_weighs_a_regression_half_and_settles_where_every_task_counts_alike() -> None:
    weighting, state = configured(Uncertainty(learning_rate=0.1))
    losses = [0.1, 4.0]
    weights, _ = weigh(weighting, losses, state)
    assert weights.tolist() == [1.0, 0.5]
    for _ in range(200):
        weights, state = weigh(weighting, losses, state)
    np.testing.assert_allclose(weights * losses, 0.5, rtol=0.02)  # the minimum of sum(w L + s / 2) over s


def test_dynamic_weight_average_follows_the_ratio_of_two_epochs() -> None:
    weighting, state = configured(DynamicWeightAverage(temperature=2.0))
    for means in ([1.0, 1.0], [0.5, 0.9]):
        weights, state = weigh(weighting, [9.0, 9.0], state)
        assert weights.tolist() == [1.0, 1.0]
        state = weighting.end_epoch(tf.constant(means), state)
    weights, state = weigh(weighting, [9.0, 9.0], state)
    powers = np.exp(np.array([0.5, 0.9]) / 2.0)
    np.testing.assert_allclose(weights, 2 * powers / powers.sum(), rtol=1e-6)
    state = weighting.end_epoch(tf.constant([0.5, 0.45]), state)
    powers = np.exp(np.array([1.0, 0.5]) / 2.0)
    np.testing.assert_allclose(weigh(weighting, [9.0, 9.0], state)[0], 2 * powers / powers.sum(), rtol=1e-6)


def test_random_weights_sum_to_one_and_depend_on_the_key() -> None:
    weighting, state = configured(RandomLossWeighting(), [Task(name) for name in "abcd"])
    drawn = [weighting.weights(Statistics(tf.ones(4), tf.constant([0, key])), state)[0].numpy() for key in range(500)]
    np.testing.assert_allclose(np.sum(drawn, axis=1), 1, rtol=1e-5)
    again = weighting.weights(Statistics(tf.ones(4), tf.constant([0, 7])), state)[0]
    np.testing.assert_array_equal(drawn[7], again)
    mean, deviation = np.mean(drawn, axis=0), np.std(drawn, axis=0)
    assert (np.abs(mean - 0.25) < 4 * deviation / np.sqrt(500)).all() and deviation.min() > 0.1


@pytest.mark.parametrize("weighting", [GeometricLoss(), SmoothTchebycheff(temperature=0.3)])
def test_weights_are_the_derivative_of_the_scalar_that_is_descended(weighting: Weighting) -> None:
    weighting.configure([Task(name) for name in "abc"])
    losses = tf.constant([0.7, 0.05, 1.9])
    with tf.GradientTape() as tape:
        tape.watch(losses)
        if isinstance(weighting, GeometricLoss):
            scalar = tf.reduce_prod(losses) ** (1 / 3)
        else:
            scalar = 0.3 * tf.math.log(tf.reduce_sum(tf.exp(losses / 3 / 0.3)))
    weights, _ = weighting.weights(Statistics(losses, KEY), {})
    np.testing.assert_allclose(weights, tape.gradient(scalar, losses), rtol=1e-5)


def test_famo_descends_the_log_losses_and_takes_from_a_task_that_fell_more() -> None:
    weighting, state = configured(FAMO(learning_rate=0.1, decay=0.0), [Task(name) for name in "abc"])
    losses = np.array([0.5, 2.0, 1.0])
    weights, state = weigh(weighting, losses, state)
    np.testing.assert_allclose(weights, (1 / losses) / (1 / losses).sum(), rtol=1e-5)
    state = weighting.after_step(tf.constant([0.3, 1.9, 0.99], tf.float32), state)
    weights, _ = weigh(weighting, losses, state)
    shares = weights * losses / (weights * losses).sum()  # softmax(xi)
    assert shares[0] < 1 / 3 < min(shares[1:])


def test_famos_step_is_adams_on_the_softmaxs_vector_jacobian_product() -> None:
    weighting, state = configured(FAMO(learning_rate=0.1, decay=0.2), [Task(name) for name in "abc"])
    xi = tf.constant([0.3, -0.4, 0.1])
    before, after = tf.constant([0.5, 2.0, 1.0]), tf.constant([0.3, 1.9, 0.99])
    _, state = weighting.weights(Statistics(before, KEY), {**state, "xi": xi})
    with tf.GradientTape() as tape:
        tape.watch(xi)
        shares = tf.nn.softmax(xi)
    fall = tf.math.log(before) - tf.math.log(after)
    gradient = tape.gradient(shares, xi, output_gradients=fall) + 0.2 * xi
    found = weighting.after_step(after, state)
    np.testing.assert_allclose(found["adam_mean"], 0.1 * gradient, rtol=1e-4)
    np.testing.assert_allclose(found["xi"], xi - 0.1 * np.sign(gradient), rtol=1e-3)  # Adam's first step
