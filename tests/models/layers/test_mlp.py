"""A bank of networks is a loop over networks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from funrec.models.layers.experts import GateBank
from funrec.models.layers.mlp import BankNormalization, MLPBank
from funrec.models.layers.randomness import random_sites

X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
X_EACH = np.random.default_rng(1).normal(size=(3, 10, 5)).astype(np.float32)


def built(layer: Any, shape: tuple[int | None, ...], scale: float = 1.0) -> Any:
    with random_sites(0, -1):
        layer.build(shape)
    draw = np.random.default_rng(2)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(scale=scale, size=variable.shape))
    return layer


def relu(x: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(x, 0)


@pytest.mark.parametrize("x", [X, X_EACH], ids=["one input for all", "an input each"])
@pytest.mark.parametrize(("name", "activation"), [("relu", relu), ("tanh", np.tanh)])
def test_a_bank_equals_a_loop_over_its_networks(x: NDArray[np.float32], name: str, activation: Any) -> None:
    bank = built(MLPBank(3, (4, 2), name), x.shape)
    expected = []
    for member in range(3):
        y = x if x.ndim == 2 else x[member]
        for kernel, bias in zip(bank.kernels, bank.biases, strict=True):
            y = activation(y @ kernel.numpy()[member] + bias.numpy()[member])
        expected.append(y)
    np.testing.assert_allclose(bank(x), expected, rtol=1e-5, atol=1e-6)


def test_a_bank_without_units_passes_its_input_on() -> None:
    bank = built(MLPBank(3), X.shape)
    np.testing.assert_array_equal(bank(X), np.stack([X] * 3))
    np.testing.assert_array_equal(bank(X_EACH), X_EACH)


def test_networks_start_apart_and_within_the_limits_of_glorot() -> None:
    bank = MLPBank(4, (50,))
    with random_sites(0, -1):
        bank.build((None, 30))
    kernel = bank.kernels[0].numpy()
    limit = np.sqrt(6 / (30 + 50))
    assert np.abs(kernel).max() < limit
    # Each matrix by itself: the deviation of a uniform draw, to within 5 of its own standard errors.
    for matrix in kernel:
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=5 * np.sqrt(0.2 / matrix.size))
    assert (kernel[0] != kernel[1]).all()


def test_normalisation_equals_that_of_keras_for_every_member() -> None:
    bank = built(BankNormalization(), (3, None, 5), scale=0.7)
    members = [keras.layers.BatchNormalization() for _ in range(3)]
    for place, member in enumerate(members):
        member.build((None, 5))
        member.gamma.assign(bank.gamma[place, 0])
        member.beta.assign(bank.beta[place, 0])
    for step in range(3):  # so that the moving averages have moved
        x = np.random.default_rng(step).normal(loc=step, size=(3, 10, 5)).astype(np.float32)
        expected = np.stack([member(x[place], training=True) for place, member in enumerate(members)])
        np.testing.assert_allclose(bank(x, training=True), expected, rtol=1e-4, atol=1e-5)
    expected = np.stack([member(X_EACH[place], training=False) for place, member in enumerate(members)])
    np.testing.assert_allclose(bank(X_EACH, training=False), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - X_EACH).max() > 0.1


def test_a_bank_normalises_before_its_activation() -> None:
    bank = built(MLPBank(2, (3,), "relu", batch_normalization=True), X.shape)
    assert not bank.biases
    before = np.stack([X @ kernel for kernel in bank.kernels[0].numpy()])
    norm = bank.normalizations[0]
    expected = relu(
        (before - before.mean(1, keepdims=True))
        / np.sqrt(before.var(1, keepdims=True) + norm.epsilon)
        * norm.gamma.numpy()
        + norm.beta.numpy()
    )
    np.testing.assert_allclose(bank(X, training=True), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("units", [(), (6,)], ids=["linear", "hidden"])
def test_gates_are_softmax_over_the_experts(units: tuple[int, ...]) -> None:
    gates = built(GateBank(2, 4, units), X.shape)
    found = gates(X).numpy()
    for gate in range(2):
        y = X
        if units:
            y = relu(X @ gates.hidden.kernels[0].numpy()[gate] + gates.hidden.biases[0].numpy()[gate])
        odds = np.exp(y @ gates.kernel.numpy()[gate])
        np.testing.assert_allclose(found[gate], odds / odds.sum(axis=1, keepdims=True), rtol=1e-4)
    assert found.shape == (2, 10, 4)


def test_training_drops_units_and_scoring_does_not() -> None:
    bank = built(MLPBank(2, (64,), "relu", dropout=0.5), X.shape)
    plain = bank(X, training=False).numpy()
    with random_sites(0, 0):
        dropped = bank(X, training=True).numpy()
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-6)
    assert (plain[~kept] > 0).any()
