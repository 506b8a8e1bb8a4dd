"""Poolings give what loops over each row's own events give, whatever stands beside them in the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import model
from numpy.typing import NDArray

from funrec.models.backbones.logistic import Logistic
from funrec.models.layers.embedding import FusedEmbedding
from funrec.models.layers.pooling import MeanPooling
from funrec.models.layers.randomness import random_sites
from funrec.schema import CategoricalFeature, InputLayout, SequenceFeature

Array = NDArray[np.floating[Any]]
DIM, LENGTH, ROWS = 3, 6, 40
CARDINALITIES = {"item": 9, "tag": 5, "seen/ago": 4}


def events_layout(pooling: Any = "attention", **first: Any) -> InputLayout:
    """Return an item with a tag, and events that have both and an age."""
    common: dict[str, Any] = {"embedding_dim": DIM, "max_length": LENGTH, "events": "seen"}
    features = (
        CategoricalFeature("item", embedding_dim=DIM),
        CategoricalFeature("tag", embedding_dim=DIM),
        SequenceFeature("seen/item", share_with="item", pooling=pooling, **common, **first),
        SequenceFeature("seen/ago", **common),
        SequenceFeature("seen/tag", share_with="tag", **common),
    )
    return InputLayout(features, ("item", "tag"), (), CARDINALITIES)


def events_batch(seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    lengths = np.arange(ROWS) % (LENGTH + 1)
    columns = {"seen/item": 9, "seen/ago": 4, "seen/tag": 5}
    there = np.arange(LENGTH) < lengths[:, None]
    return {
        "ids": np.stack([draw.integers(0, size, ROWS) for size in (9, 5)], axis=1).astype(np.int32),
        "sequences": {
            name: np.where(there, draw.integers(0, size, (ROWS, LENGTH)), -1).astype(np.int32)
            for name, size in columns.items()
        },
    }


def build(layout: InputLayout, **options: Any) -> FusedEmbedding:
    """Return a layer whose every weight has a value of its own."""
    layer = FusedEmbedding(layout.embedded_features, layout.id_features, layout.cardinalities, **options)
    with random_sites(0, -1):
        layer.build()
    draw = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    return layer


def rows_of(layer: FusedEmbedding, batch: dict[str, Any], copy: int) -> list[tuple[Array, Array]]:
    """Return every row's target, `(6,)`, and events, `(events, 9)`: item, tag, ago."""
    table = layer.weights_by_table[0].numpy()[:, copy * DIM : (copy + 1) * DIM]
    items, tags, ages = table[:9], table[9:14], table[14:18]
    found = []
    for row, (item, tag) in enumerate(batch["ids"]):
        of = {name: values[row][values[row] >= 0] for name, values in batch["sequences"].items()}
        events = [items[of["seen/item"]], tags[of["seen/tag"]], ages[of["seen/ago"]]]
        found.append((np.concatenate([items[item], tags[tag]]), np.concatenate(events, axis=1)))
    return found


def pooled(layer: FusedEmbedding, batch: dict[str, Any]) -> Array:
    """Return what the layer makes of the events, `(copies, batch, 9)`, in the order item, tag, ago."""
    x = np.asarray(layer(batch).x)
    x = x if x.ndim == 3 else x[None]
    item, ago, tag = (x[:, :, (2 + place) * DIM : (3 + place) * DIM] for place in range(3))
    return np.concatenate([item, tag, ago], axis=-1)


def attention(layer: FusedEmbedding, copy: int, target: Array, events: Array) -> Array:
    part = layer.readers[0].pooling
    kernel, bias, last, last_bias = (
        np.asarray(weight)[copy] for weight in (part.hidden.kernels[0], part.hidden.biases[0], part.kernel, part.bias)
    )
    total = np.zeros(events.shape[1])
    for one in events:
        hidden = np.concatenate([one, target, one[: 2 * DIM] * target]) @ kernel + bias[0]
        total += (np.maximum(hidden, 0) @ last + last_bias[0]) * one
    return total


def transformer(layer: FusedEmbedding, copy: int, target: Array, events: Array) -> Array:
    part = layer.readers[0].pooling
    if not len(events):
        return np.zeros(3 * DIM)
    positions = np.asarray(part.positions).reshape(LENGTH + 1, part.copies, -1)[:, copy]
    x = np.concatenate([[np.pad(target, (0, DIM))], events[::-1]]) + positions[: len(events) + 1]
    for block in part.blocks:
        x = encode(block, copy, x)
    return x[0]


def encode(block: Any, copy: int, x: Array) -> Array:
    query, key, value = (x @ np.asarray(kernel)[copy] for kernel in block.kernels)
    heads = []
    for head in range(block.num_heads):
        part = slice(head * block.head_width, (head + 1) * block.head_width)
        scores = query[:, part] @ key[:, part].T / block.head_width**0.5
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, part])
    s = normalise(block.norms[0], copy, x + np.concatenate(heads, axis=1) @ np.asarray(block.output_kernel)[copy])
    hidden = s @ np.asarray(block.hidden.kernels[0])[copy] + np.asarray(block.hidden.biases[0])[copy]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    further = hidden @ np.asarray(block.last_kernel)[copy] + np.asarray(block.last_bias)[copy]
    return normalise(block.norms[1], copy, s + further)


def normalise(norm: Any, copy: int, x: Array) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.epsilon)
    return scaled * np.asarray(norm.gamma)[copy, 0] + np.asarray(norm.beta)[copy, 0]


POOLINGS = [
    ("attention", attention),
    ("transformer", transformer),
    ({"name": "transformer", "num_blocks": 2, "num_heads": 3}, transformer),
]


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize(("pooling", "by_hand"), POOLINGS)
def test_a_pooling_is_what_its_equation_says_for_every_row_and_copy(pooling: Any, by_hand: Any, copies: int) -> None:
    layer, batch = build(events_layout(pooling), copies=copies, linear_units=2), events_batch()
    expected = [
        [by_hand(layer, copy, target, events) for target, events in rows_of(layer, batch, copy)]
        for copy in range(copies)
    ]
    np.testing.assert_allclose(pooled(layer, batch), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention", "transformer"])
def test_a_row_reads_the_same_bits_whatever_stands_beside_it(pooling: str) -> None:
    layer, batch = build(events_layout(pooling)), events_batch()
    order = np.random.default_rng(3).permutation(ROWS)
    moved = {
        "ids": batch["ids"][order],
        "sequences": {
            name: np.pad(values[order], ((0, 0), (0, 5)), constant_values=-1)
            for name, values in batch["sequences"].items()
        },
    }
    np.testing.assert_array_equal(np.asarray(layer(moved).x), np.asarray(layer(batch).x)[order])


@pytest.mark.parametrize("pooling", ["mean", "attention", "transformer"])
def test_a_batch_without_any_event_reads_zeros(pooling: str) -> None:
    batch = events_batch()
    batch["sequences"] = {name: np.full_like(values[:, :1], -1) for name, values in batch["sequences"].items()}
    assert not pooled(build(events_layout(pooling)), batch).any()


@pytest.mark.parametrize("most", [2, 50])
def test_a_search_keeps_the_newest_events_of_the_rows_own_key(most: int) -> None:
    layer = build(events_layout("mean", search="tag", search_length=most))
    batch, plain = events_batch(), build(events_layout("mean"))
    found = {name: np.full_like(values, -1) for name, values in batch["sequences"].items()}
    for row, (_, tag) in enumerate(batch["ids"]):
        chosen = np.flatnonzero((batch["sequences"]["seen/tag"][row] == tag) & (tag > 0))[-most:]
        for name, values in batch["sequences"].items():
            found[name][row, : len(chosen)] = values[row, chosen]
    assert 0 < (found["seen/tag"] >= 0).sum() < (batch["sequences"]["seen/tag"] >= 0).sum()
    np.testing.assert_array_equal(pooled(layer, batch), pooled(plain, {**batch, "sequences": found}))


def test_only_events_that_are_there_are_looked_up() -> None:
    batch = events_batch()
    (lookup,) = build(events_layout())(batch).lookups
    assert len(lookup.ids) == 2 * ROWS + sum((values >= 0).sum() for values in batch["sequences"].values())


def test_a_model_without_towers_takes_the_mean_of_events() -> None:
    built = model(Logistic(), events_layout(), tower_units=())
    assert isinstance(built.embedding.readers[0].pooling, MeanPooling)


def test_events_of_different_widths_are_read_together() -> None:
    layout = events_layout()
    wide = tuple(replace(f, embedding_dim=5) if "tag" in f.name else f for f in layout.features)
    layer = build(replace(layout, features=wide))
    assert layer(events_batch()).x.shape == (ROWS, 3 * DIM + 2 * 5)
    assert layer.readers[0].pooling.width == 2 * DIM + 5
