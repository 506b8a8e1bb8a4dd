"""The model: what its heads start from, what its losses count, and which numbers reach them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from examples import TASKS, layout, model, randomise, rich_batch, rich_layout

from funrec.models.backbones.logistic import Logistic
from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.shared_bottom import SharedBottom
from funrec.models.backbones.single_task import SingleTask
from funrec.models.model import MultiTaskModel
from funrec.models.penalty import has_penalty, penalty, penalty_weights
from funrec.models.wide.linear import Linear
from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import check

LABELS = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], np.float32)
LOGITS = np.array([[0.3, -2.0, 1.0, 0.0], [-1.0, 0.5, 2.0, -0.2]], np.float32)


def log_loss(label: float, logit: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p if label else 1 - p)


def mean_losses(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[float]:
    return [
        sum(w * log_loss(y, z) for z, y, w in zip(logits[t], labels[:, t], weights[:, t], strict=True))
        / weights[:, t].sum()
        for t in range(2)
    ]


@pytest.mark.parametrize("backbone", [Logistic, MMoE, SharedBottom, SingleTask])
def test_every_head_starts_at_its_tasks_base_rate(backbone: type) -> None:
    inputs = layout({"user": 20, "item": 30}, numeric=["age"])
    built = model(backbone(), inputs, rates={"click": 0.4, "like": 0.02}, wide=Linear(l2=0.0))
    unknown = {**inputs.empty_batch(rows=3), "numeric": np.zeros((3, 1), np.float32)}
    probabilities = tf.sigmoid(built(unknown)).numpy()
    np.testing.assert_allclose(probabilities, [[0.4] * 3, [0.02] * 3], rtol=1e-5)


def test_a_regression_head_starts_at_the_mean() -> None:
    tasks = (Task("click", "click"), Task("seconds", "seconds", kind="regression"))
    built = model(tasks=tasks, rates={"click": 0.5, "seconds": 12.5})
    scores = built.scores(built(batch := built.layout.empty_batch(rows=2)), batch)
    np.testing.assert_allclose(scores["seconds"], [12.5, 12.5], rtol=1e-6)
    np.testing.assert_allclose(scores["click"], [0, 0], atol=1e-6)


def test_a_loss_is_a_mean_over_rows() -> None:
    found = model().task_losses(tf.constant(LOGITS), {"labels": tf.constant(LABELS)})
    np.testing.assert_allclose(found, mean_losses(LOGITS, LABELS, np.ones((4, 2))), rtol=1e-5)


def test_a_loss_is_a_weighted_mean_over_the_tasks_own_rows() -> None:
    weights = np.array([[1, 0], [0.5, 1], [0, 2], [3, 0]], np.float32)
    found = model().task_losses(tf.constant(LOGITS), {"labels": tf.constant(LABELS), "weights": tf.constant(weights)})
    np.testing.assert_allclose(found, mean_losses(LOGITS, LABELS, weights), rtol=1e-5)


def test_a_task_without_a_valid_row_has_loss_0_and_no_gradient() -> None:
    weights = tf.constant([[1, 0]] * 4, tf.float32)
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = model().task_losses(logits, {"labels": tf.constant(LABELS), "weights": weights})
        total = tf.reduce_sum(losses)
    assert float(losses[1]) == 0
    gradient = tape.gradient(total, logits).numpy()
    assert not gradient[1].any()
    assert gradient[0].all()


def test_a_regression_loss_is_the_squared_error() -> None:
    tasks = (Task("click", "click"), Task("seconds", "seconds", kind="regression"))
    labels = np.array([[1, 3.0], [0, -1.0], [1, 0.5], [0, 2.0]], np.float32)
    found = model(tasks=tasks).task_losses(tf.constant(LOGITS), {"labels": tf.constant(labels)}).numpy()
    assert found[1] == pytest.approx(np.square(LOGITS[1] - labels[:, 1]).mean(), rel=1e-6)


def test_a_downsampled_tasks_loss_is_read_at_the_odds_of_the_sampled_rows() -> None:
    rate = 0.1
    found = (
        model()
        .task_losses(tf.constant(LOGITS), {"labels": tf.constant(LABELS)}, offsets={"click": math.log(rate)})
        .numpy()
    )
    moved = LOGITS - np.array([[math.log(rate)], [0]])  # odds / rate
    np.testing.assert_allclose(found, mean_losses(moved, LABELS, np.ones((4, 2))), rtol=1e-5)


def test_logits_beyond_what_a_probability_can_hold_keep_their_loss() -> None:
    logits = tf.constant([[-200.0] * 4, [200.0] * 4])
    found = model().task_losses(logits, {"labels": tf.constant(LABELS)}).numpy()
    np.testing.assert_allclose(found, [100.0, 100.0], rtol=1e-6)  # half of the labels contradict each
    assert np.isfinite(model().scores(logits, {})["click"]).all()


def test_scores_are_named_by_task_in_whatever_order_the_tasks_stand() -> None:
    for tasks in (TASKS, TASKS[::-1]):
        scores = model(tasks=tasks).scores(tf.constant(LOGITS), {})
        for place, task in enumerate(tasks):
            np.testing.assert_allclose(scores[task.name], LOGITS[place], rtol=1e-5)


def test_a_linear_wide_part_adds_a_weight_per_id_and_number() -> None:
    batch = rich_batch()
    built = model(inputs=rich_layout(), wide=Linear(3.0, l2=0.0))
    randomise(built)
    embedded = built.embed(batch)
    ids_alone = built.embedding(batch).linear.numpy()
    numbers = batch["numeric"] @ built.wide.coefficients.numpy()
    np.testing.assert_allclose(embedded.linear, 3.0 * (ids_alone + numbers).T, rtol=1e-4, atol=1e-5)
    with_term = built(batch).numpy()
    for table in built.embedding.weights_by_table:
        table.assign(table.numpy() * ([1.0] * (table.shape[1] - 2) + [0.0] * 2))
    built.wide.coefficients.assign(np.zeros((2, 2)))
    np.testing.assert_allclose(with_term - built(batch).numpy(), embedded.linear, rtol=1e-3, atol=1e-4)


def test_a_linear_wide_part_of_numbers_alone_is_one_too() -> None:
    inputs = layout({}, numeric=["age", "price"])
    built = model(inputs=inputs, wide=Linear(2.0, l2=0.0))
    randomise(built)
    numeric = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    linear = built.embed({**inputs.empty_batch(4), "numeric": numeric}).linear
    np.testing.assert_allclose(linear, 2.0 * (numeric @ built.wide.coefficients.numpy()).T, rtol=1e-4)


def test_the_penalty_is_per_row_of_the_batch_and_on_effective_weights() -> None:
    batch = rich_batch()
    built = model(Logistic(scale=10.0, l2=0.5), rich_layout())
    built.embedding.count_lookups({name: np.full(rows, 4) for name, rows in rich_layout().cardinalities.items()})
    randomise(built)
    (lookup,) = built.embed(batch).lookups
    squares = np.square(10.0 * lookup.rows.numpy())
    found = penalty(built, built.embed(batch), rows=6).numpy()
    assert found == pytest.approx([*(0.5 * squares.sum(0) / 4 / 6), 0.0], rel=1e-5)


def test_embeddings_and_linear_weights_are_penalised_by_weights_of_their_own() -> None:
    batch = rich_batch()
    built = model(inputs=rich_layout(), embedding_l2=0.5, wide=Linear(3.0, l2=0.25))
    built.embedding.count_lookups({name: np.full(rows, 4) for name, rows in rich_layout().cardinalities.items()})
    randomise(built)
    expected = np.zeros(3)
    for lookup in built.embed(batch).lookups:
        squares = np.square(lookup.rows.numpy())
        expected += [*(0.25 * 9 * squares[:, -2:].sum(0)), 0.5 * squares[:, :-2].sum()]
    assert penalty(built, built.embed(batch), rows=6).numpy() == pytest.approx(expected / 4 / 6, rel=1e-5)


def test_a_penalty_on_what_one_task_owns_is_weighted_with_its_loss() -> None:
    alone, shared = model(SingleTask((8,), dropout=0.0), embedding_l2=0.5), model(embedding_l2=0.5)
    for built, expected in ((alone, [True, True, False]), (shared, [False, False, True])):
        built.embedding.count_lookups({"user": np.ones(20), "item": np.ones(30)})
        ridge = penalty(built, built.embed({"ids": np.ones((2, 2), np.int32), "sequences": {}}), rows=2)
        assert list(ridge.numpy() > 0) == expected
        assert list(penalty_weights(built, tf.constant([3.0, 0.25])).numpy()) == [3.0, 0.25, 1.0]


def test_there_is_no_penalty_unless_asked_for() -> None:
    built = model()
    assert not has_penalty(built)
    assert penalty(built, built.embed(built.layout.empty_batch(2)), 2) is None


def test_a_tower_reads_its_own_weights_alone() -> None:
    built, batch = model(SharedBottom(units=(8,), dropout=0.0)), layout({"user": 20, "item": 30}).empty_batch(5)
    randomise(built)
    before = built(batch).numpy()
    for variable in built.towers.trainable_variables:
        values = variable.numpy()
        values[1] += 1
        variable.assign(values)
    after = built(batch).numpy()
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).all()


@pytest.mark.parametrize("backbone", [Logistic, MMoE, SharedBottom, SingleTask])
@pytest.mark.parametrize("normalise", [False, True])
def test_bfloat16_computes_about_the_same_and_keeps_its_weights_in_float32(backbone: type, normalise: bool) -> None:
    logits = []
    for precision in ("float32", "mixed_bfloat16"):
        options = {} if backbone is Logistic else {"batch_normalization": normalise}
        parts = backbone(dtype=precision, **options)
        built = model(
            parts,
            rich_layout(),
            precision=precision,
            wide=Linear(l2=0.0, dtype=precision),
            tower_units=(8,),
            batch_normalization=normalise,
        )
        randomise(built, 0.3)
        logits.append(built(rich_batch()).numpy())
        assert {variable.dtype for variable in built.trainable_variables} == {"float32"}
    assert logits[1].dtype == np.float32
    assert (logits[0] != logits[1]).any()
    np.testing.assert_allclose(logits[1], logits[0], atol=0.03 * np.abs(logits[0]).max())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("tower_units", [0], "model.tower_units should be a list of positive whole numbers. Received: [0]."),
        ("tower_units", [True], "model.tower_units should be a list of positive whole numbers. Received: [True]."),
        ("tower_units", 64, "model.tower_units should be a list of positive whole numbers. Received: 64."),
        ("tower_units", "wide", "model.tower_units should be a list of positive whole numbers. Received: wide."),
        ("tower_dropout", 1.0, "model.tower_dropout should be at least 0 and below 1. Received: 1.0."),
        ("activation", "rleu", "model.activation should name a Keras activation such as relu or gelu. Received: rleu."),
        ("batch_normalization", "no", "model.batch_normalization should be true or false. Received: no."),
        ("embedding_l2", -1, "model.embedding_l2 should be a number of at least 0. Received: -1."),
    ],
)
def test_a_bad_option_is_refused_in_one_line(option: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        check(MultiTaskModel, {option: value}, "model", ("backbone", "funnel", "layout", "tasks"))
    assert str(refused.value) == message
