"""The fused table gives what a lookup per feature would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from examples import layout, rich_batch, rich_layout
from numpy.typing import NDArray

from funrec.models.layers.embedding import FusedEmbedding
from funrec.models.layers.randomness import random_sites
from funrec.schema import InputLayout

# Where each feature's rows begin in the table of its width, by hand: the owners one after another.
TABLES = {4: {"user": 0, "item": 7}, 2: {"tags": 0, "tab": 5}}
OWNERS = {"user": "user", "item": "item", "seen": "item", "tags": "tags", "tab": "tab", "topics": "tags"}
IDS = {"user": 0, "item": 1, "tab": 2}


def build(inputs: InputLayout, seed: int = 0, **options: Any) -> FusedEmbedding:
    layer = FusedEmbedding(inputs.embedded_features, inputs.id_features, inputs.cardinalities, **options)
    with random_sites(seed, -1):
        layer.build()
    return layer


def fill(layer: FusedEmbedding) -> dict[int, NDArray[np.float32]]:
    """Give every weight a value of its own and return the tables by width."""
    tables = {}
    for place, weight in enumerate(layer.weights_by_table):
        values = np.random.default_rng(place).normal(size=weight.shape).astype(np.float32)
        weight.assign(values)
        tables[values.shape[1]] = values
    return tables


def pooled(rows: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    return {"mean": rows.mean, "sum": rows.sum, "max": rows.max}[kind](axis=0)


def rows_of(name: str, batch: dict[str, Any], row: int, table: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    start = TABLES[dim][OWNERS[name]]
    if name in IDS:
        return table[[start + batch["ids"][row, IDS[name]]]]
    values = batch["sequences"][name][row]
    return table[start + values[values >= 0]]


#: Features in the order in which each table lays them out: ids first, then sequences.
ORDER = {
    4: [("user", "sum"), ("item", "sum"), ("seen", "mean")],
    2: [("tab", "sum"), ("tags", "sum"), ("topics", "max")],
}


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("linear_units", [0, 2])
def test_it_equals_one_lookup_per_feature(copies: int, linear_units: int) -> None:
    layer = build(rich_layout(), copies=copies, linear_units=linear_units)
    tables, batch = fill(layer), rich_batch()
    found = layer(batch)
    linear = np.zeros((6, linear_units), np.float32)
    blocks: list[list[NDArray[np.float32]]] = [[] for _ in range(copies)]
    for dim in (4, 2):
        table = tables[copies * dim + linear_units]
        for name, kind in ORDER[dim]:
            values = np.stack([pooled(rows_of(name, batch, row, table, dim), kind) for row in range(6)])
            linear += values[:, copies * dim :]
            for copy in range(copies):
                blocks[copy].append(values[:, copy * dim : (copy + 1) * dim])
    expected = np.stack([np.concatenate(block, axis=1) for block in blocks])
    np.testing.assert_allclose(found.x, expected[0] if copies == 1 else expected, rtol=1e-6, atol=1e-6)
    if linear_units:
        np.testing.assert_allclose(found.linear, linear, rtol=1e-6, atol=1e-6)
    else:
        assert found.linear is None


def test_its_width_is_that_of_one_copy() -> None:
    assert build(rich_layout(), copies=3, linear_units=2).width == 3 * 4 + 3 * 2


def test_there_is_one_table_per_width() -> None:
    assert [tuple(table.shape) for table in build(rich_layout()).weights_by_table] == [(18, 4), (8, 2)]
    assert [tuple(table.shape) for table in build(rich_layout(), dim=1).weights_by_table] == [(26, 1)]


def test_row_0_of_every_feature_and_the_linear_weights_start_at_zero_and_no_other_does() -> None:
    layer = build(rich_layout(), linear_units=2, limit=0.05)
    for table, dim in zip(layer.weights_by_table, (4, 2), strict=True):
        values = table.numpy()
        firsts = list(TABLES[dim].values())
        assert not values[firsts].any()
        assert not values[:, dim:].any()
        others = np.delete(values[:, :dim], firsts, axis=0)
        assert others.all()
        assert np.abs(others).max() < 0.05


def test_it_starts_as_a_function_of_the_seed() -> None:
    first, again, other = (build(rich_layout(), seed=seed).weights_by_table[0].numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[1:7] != other[1:7]).all()


def test_the_copies_of_a_row_start_apart() -> None:
    row = build(layout({"user": 3}), copies=2).weights_by_table[0].numpy()[1]
    assert (row[:4] != row[4:]).all()


def test_numbers_alone_give_an_embedding_of_no_width() -> None:
    inputs = layout({}, numeric=["age"])
    batch = {"ids": np.zeros((5, 0), np.int32), "sequences": {}}
    assert build(inputs)(batch).x.shape == (5, 0)
    assert build(inputs, copies=2)(batch).x.shape == (2, 5, 0)


def test_a_gradient_touches_the_rows_looked_up_alone() -> None:
    layer = build(layout({"user": 5, "item": 6}))
    batch = {"ids": np.array([[1, 2], [1, 3]], np.int32), "sequences": {}}
    table = layer.weights_by_table[0].value
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(batch).x)
    gradient = tape.gradient(total, table)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, [1, 5 + 2, 1, 5 + 3])
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient)[1], [2.0] * 4)


def test_a_pass_over_the_rows_adds_up_to_the_ridge_penalty_of_the_whole_table() -> None:
    layer = build(rich_layout(), linear_units=2)
    tables, batch = fill(layer), rich_batch(rows=500)  # enough for every row to be looked up
    counts = {name: np.zeros(rows, np.int64) for name, rows in rich_layout().cardinalities.items()}
    for name, column in IDS.items():
        np.add.at(counts[name], batch["ids"][:, column], 1)
    for name, values in batch["sequences"].items():
        np.add.at(counts[OWNERS[name]], values[values >= 0], 1)
    assert all(count.all() for count in counts.values())
    layer.count_lookups(counts)
    parts = [
        {**batch, "ids": batch["ids"][part], "sequences": {n: v[part] for n, v in batch["sequences"].items()}}
        for part in (slice(0, 200), slice(200, 500))
    ]
    found = [layer.ridge(layer(part).lookups, (0.3, tf.identity), (0.7, tf.identity)) for part in parts]
    embeddings, linear = (np.sum([one[place] for one in found], axis=0) for place in range(2))
    squares = [np.square(table, dtype=np.float64) for table in tables.values()]
    assert embeddings == pytest.approx([0.3 * sum(table[:, :-2].sum() for table in squares)], rel=1e-5)
    assert linear == pytest.approx(0.7 * sum(table[:, -2:].sum(0) for table in squares), rel=1e-5)
