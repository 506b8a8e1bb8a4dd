"""Dropout at one byte per unit, from a pool: the right share, unbiased, a function of seed, step and site alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from funrec.models.layers.randomness import current_sites, dropout, random_sites, relu_dropout

ONES = tf.ones((1000, 1000))


def drawn(seed: int = 0, step: int = 0, site: int = 0, layer: Callable = dropout, rate: float = 0.3) -> np.ndarray:
    with random_sites(seed, step) as sites:
        for _ in range(site):
            sites.next_key()
        return layer(ONES, rate).numpy()


@pytest.mark.parametrize("layer", [dropout, relu_dropout])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_it_drops_the_share_it_is_asked_for(layer: Callable, rate: float) -> None:
    share = (drawn(layer=layer, rate=rate) == 0).mean()
    rounded = round(rate * 256) / 256
    assert abs(rounded - rate) <= 1 / 512
    assert abs(share - rounded) < 4.5 * np.sqrt(rounded * (1 - rounded) / 1e6)


@pytest.mark.parametrize("layer", [dropout, relu_dropout])
def test_its_mean_is_that_of_its_input(layer: Callable) -> None:
    rate = round(0.3 * 256) / 256
    assert abs(drawn(layer=layer).mean() - 1) < 4.5 * np.sqrt(rate / (1 - rate) / 1e6)


def test_it_is_a_function_of_seed_step_and_site() -> None:
    np.testing.assert_array_equal(drawn(3, 7, 2), drawn(3, 7, 2))
    for other in (drawn(4, 7, 2), drawn(3, 8, 2), drawn(3, 7, 1)):
        differ = (drawn(3, 7, 2) != other).mean()
        assert abs(differ - 2 * 0.3 * 0.7) < 0.01  # as two independent masks do


def test_it_draws_the_same_inside_a_graph() -> None:
    @tf.function
    def graph(step: tf.Tensor) -> tf.Tensor:
        with random_sites(3, step):
            return dropout(ONES, 0.3)

    np.testing.assert_array_equal(graph(tf.constant(7, tf.int64)), drawn(3, 7))


def test_every_unit_is_drawn_by_itself() -> None:
    dropped = drawn() == 0
    for shifted in (np.roll(dropped, 1, axis=0), np.roll(dropped, 1, axis=1), np.roll(dropped, 4, axis=1)):
        together = (dropped & shifted).mean()
        assert abs(together - (77 / 256) ** 2) < 4.5 * np.sqrt(0.09 * 0.91 / 1e6)


def test_masks_of_many_steps_are_unrelated_unit_by_unit() -> None:
    """Windows into one pool: over steps, a unit is dropped as often as it should be, whatever its neighbours are."""
    masks = []
    for step in range(400):
        with random_sites(1, step):
            masks.append(dropout(tf.ones((20, 30)), 0.3).numpy().ravel() == 0)
    dropped = np.stack(masks).astype(float)  # (steps, units)
    rate, steps = 77 / 256, len(dropped)
    assert np.abs(dropped.mean(0) - rate).max() < 5 * np.sqrt(rate * (1 - rate) / steps)
    correlations = np.corrcoef(dropped.T)[np.triu_indices(600, k=1)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(steps)
    assert correlations.std() == pytest.approx(1 / np.sqrt(steps), rel=0.1)
    between_steps = np.corrcoef(dropped)[np.triu_indices(steps, k=1)]
    assert between_steps.std() == pytest.approx(1 / np.sqrt(600), rel=0.1)


def test_lists_of_any_length_are_dropped_too() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 50])])
    def graph(x: tf.Tensor) -> tf.Tensor:
        with random_sites(3, 5):
            return dropout(x, 0.3)

    first, second = graph(tf.ones((400, 50))).numpy(), graph(tf.ones((300, 50))).numpy()
    assert abs((first == 0).mean() - 77 / 256) < 0.015
    np.testing.assert_array_equal(first[:300], second)


def test_the_gradient_of_relu_dropout_is_that_of_relu_and_then_dropout() -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32))
    weight = tf.constant(np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32))
    found = []
    for layer in (lambda x: relu_dropout(x, 0.4), lambda x: dropout(tf.nn.relu(x), 0.4)):
        with tf.GradientTape() as tape, random_sites(0, 0):
            tape.watch(x)
            y = layer(x)
            total = tf.reduce_sum(y * weight)
        found.append((y, tape.gradient(total, x)))
    (fused, fused_gradient), (plain, plain_gradient) = found
    np.testing.assert_allclose(fused, plain, rtol=1e-6)
    np.testing.assert_allclose(fused_gradient, plain_gradient, rtol=1e-6)
    assert (np.asarray(plain_gradient) != 0).mean() == pytest.approx(0.3, abs=0.06)


def test_drawing_outside_of_a_step_is_refused() -> None:
    with pytest.raises(RuntimeError, match="random_sites"):
        current_sites()
