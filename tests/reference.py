"""The papers' equations in NumPy, one network at a time, from a layer's own weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import structure
from numpy.typing import NDArray

from funrec.models.backbones.base import Backbone

Array = NDArray[np.float64]
WIDTH = 12


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(x: Array) -> Array:
    odds = np.exp(x - x.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def network(bank: Any, number: int, x: Array) -> Array:
    """Return what one network of an `MLPBank` makes of `x`."""
    for kernel, bias in zip(bank.kernels, bank.biases, strict=True):
        x = relu(x @ kernel.numpy()[number].astype(np.float64) + bias.numpy()[number])
    return x


def gate(bank: Any, number: int, x: Array) -> Array:
    """Return the weights `(batch, experts)` of one gate of a `GateBank`."""
    if bank.hidden.units:
        x = network(bank.hidden, number, x)
    return softmax(x @ bank.kernel.numpy()[number].astype(np.float64))


def mixture(weights: Array, experts: list[Array]) -> Array:
    return sum(weights[:, [place]] * expert for place, expert in enumerate(experts))


def built(backbone: Backbone, towers: int, copies: int | None = None, rows: int = 6) -> tuple[Backbone, Any]:
    """Return a backbone with a random value in every weight, and an input for it."""
    from funrec.models.layers.randomness import random_sites

    draw = np.random.default_rng(0)
    shape = (rows, WIDTH) if copies is None else (copies, rows, WIDTH)
    x = draw.normal(size=shape).astype(np.float32)
    backbone.configure(structure(towers))
    with random_sites(0, -1):
        backbone(x)
    for variable in backbone.trainable_variables:
        variable.assign(draw.normal(scale=0.5, size=variable.shape))
    return backbone, x


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=2e-4, atol=2e-4)
