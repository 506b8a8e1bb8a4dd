"""The papers' equations in NumPy, one network at a time, from a layer's own weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import layout, model, optimizer, planted_rows, structure, weighting
from numpy.typing import NDArray

from funrec.models.backbones.base import Backbone
from funrec.schema import Task

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
        x = relu(x @ of(kernel, number) + of(bias, number))
    return x


def of(variable: Any, number: int) -> Array:
    """Return one network's part of a bank's variable."""
    part: Array = variable.numpy()[number].astype(np.float64)
    return part


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


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


def randomised(backbone: Backbone, towers: int, rows: int = 6, **options: Any) -> tuple[Backbone, Any]:
    """Return a backbone in a model with a random value in every weight, and what it reads of some rows."""
    draw = np.random.default_rng(0)
    tasks = [Task(f"tower_{place + 1}") for place in range(towers)]
    known = {"domain": options.pop("domain")} if "domain" in options else {}
    made = model(backbone, layout({"user": 20, "item": 30}, **known), tasks, **options)
    for variable in made.variables:  # averages of variances too, which are not negative
        values = draw.normal(scale=0.5, size=variable.shape)
        variable.assign(abs(values) + 0.1 if variable.name.endswith("variance") else values)
    ids = np.stack([draw.integers(1, 20, rows), draw.integers(1, 30, rows)], axis=1).astype(np.int32)
    return backbone, made.read(made.embed({"ids": ids, "sequences": {}})).numpy()


def trained(backbone: Backbone, towers: int, steps: int = 100, read: int = 6, **options: Any) -> tuple[Backbone, Any]:
    """Return a backbone after some steps of training on labels that the ids decide, and what it reads of some rows."""
    import tensorflow as tf

    from funrec.training.batches import BatchStream
    from funrec.training.step import TrainingStep

    tasks = [Task(f"tower_{place + 1}") for place in range(towers)]
    rows = planted_rows(lambda ids: [np.where((ids[:, k % 2] + 3 * k) % 16 < 8, 0.9, 0.1) for k in range(towers)])
    built_model = model(backbone, layout({"user": 20, "item": 30}), tasks, **options)
    stream = BatchStream(rows, built_model.layout, batch_size=128, seed=0)
    step = TrainingStep(built_model, weighting(tasks), optimizer(0.02), seed=0)
    losses = step.run(stream.block(0, steps), tf.constant(0, tf.int64))["losses"].numpy()
    assert losses[-5:].mean() < 0.95 * losses[:5].mean()
    return backbone, built_model.read(built_model.embed({"ids": rows.ids[:read], "sequences": {}})).numpy()


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=2e-4, atol=2e-4)
