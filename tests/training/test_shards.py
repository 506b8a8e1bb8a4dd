"""A batch in shards: the same step as in one piece, whatever the shards and the cores."""

from __future__ import annotations

from typing import Any

import contracts
import numpy as np
import pytest
import tensorflow as tf
from examples import Rows, layout, model, randomise, rich_batch, rich_layout

from funrec.config.compose import compose
from funrec.models.backbones.mmoe import MMoE
from funrec.models.layers.randomness import random_sites
from funrec.models.model import MultiTaskModel
from funrec.training.batches import BatchStream
from funrec.training.optimizers import LazyAdam
from funrec.training.scoring import ALIGNMENT, Scorer
from funrec.training.shards import auxiliary_loss, count_shards, cut, logits_of, penalties, run_forward, shards_of
from funrec.training.step import TrainingStep
from funrec.weighting.pcgrad import PCGrad

ROWS = contracts.nested_rows(rows=101)


def without_dropout(backbone: str, funnel: str = "independent", **parts: str) -> MultiTaskModel:
    """Return a model whose steps draw nothing: shards draw at other sites than a whole batch does."""
    built = contracts.build(backbone, funnel, **parts)
    for layer in built._flatten_layers():
        if hasattr(layer, "dropout"):
            layer.dropout = 0.0
    return built


def gradients(built: MultiTaskModel, shards: int) -> list[np.ndarray]:
    """Return the losses and the gradient of their sum with every penalty, by variable."""
    batch = contracts.batch_of(ROWS) | {"labels": tf.constant(ROWS.labels)}
    batch["weights"] = tf.constant(np.random.default_rng(5).random(ROWS.labels.shape) < 0.8, tf.float32)
    with random_sites(3, 7), tf.GradientTape() as tape:
        parts = run_forward(built, batch, shards)
        logits = logits_of(parts)
        losses = built.task_losses(logits, batch)
        total = tf.reduce_sum(losses)
        for extra in (penalties(built, parts, len(ROWS)), auxiliary_loss(built, parts, logits)):
            total += 0.0 if extra is None else tf.reduce_sum(extra)
    values = [variable.value for variable in built.trainable_variables]
    found = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [losses.numpy(), *(tf.convert_to_tensor(gradient).numpy() for gradient in found)]


@pytest.mark.parametrize(
    ("backbone", "interaction"),
    [
        *((backbone, "none") for backbone in contracts.names("model/backbone")),
        *(
            ("shared_bottom", interaction)
            for interaction in contracts.names("model/interaction")
            if interaction != "none"
        ),
    ],
)
def test_losses_and_gradients_are_those_of_the_whole_batch(backbone: str, interaction: str) -> None:
    """101 rows do not divide by 3; masks, penalties and a backbone's own loss count over all of them."""
    built = without_dropout(
        backbone, "esmm" if backbone == "mmoe" else "independent", wide="linear", interaction=interaction
    )
    randomise(built)
    shards = count_shards(built, 3, len(ROWS))
    assert shards == (1 if backbone in ("star", "home", "snr_trans") else 3)
    for one, other in zip(gradients(built, 1), gradients(built, shards), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * (np.abs(one).max() + 1e-3))


def test_sequences_and_numbers_are_cut_with_their_rows() -> None:
    batch = rich_batch(rows=7)
    built = model(inputs=rich_layout())
    randomise(built)
    parts = cut(batch, 3)
    assert [len(part["ids"]) for part in parts] == [2, 2, 3]
    logits = tf.concat([built(part) for part in parts], axis=1)
    np.testing.assert_allclose(logits, built(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "sizes"), [(300, [128, 172]), (64, [64]), (10, [10]), (128, [64, 64])])
def test_a_batch_to_score_is_cut_where_a_row_s_score_stays_its_own(rows: int, sizes: list[int]) -> None:
    parts = cut({"ids": np.zeros((rows, 2), np.int32), "sequences": {}}, 2, ALIGNMENT)
    assert [len(part["ids"]) for part in parts] == sizes


def test_scores_are_the_same_in_shards() -> None:
    built = contracts.build("ple", "independent")
    randomise(built)
    whole, parts = (Scorer(built, 128, shards).score(ROWS) for shards in (1, 2))
    for name, scores in whole.items():
        np.testing.assert_array_equal(parts[name], scores)


def test_batch_normalisation_takes_the_whole_batch() -> None:
    inputs = layout({"user": 20})
    made = [
        model(MMoE(num_experts=2, expert_units=(8,), batch_normalization=normalised), inputs)
        for normalised in (False, True)
    ]
    assert [count_shards(built, 4, batch_size=100) for built in made] == [4, 1]
    assert count_shards(made[0], 4, batch_size=3) == 3


@pytest.mark.parametrize(("model", "shards"), [("mmoe", 3), ("home", 1), ("star", 1)])
def test_threads_are_divided_among_the_shards_that_there_will_be(model: str, shards: int) -> None:
    config = compose([f"model={model}", "trainer.shards=3"])
    assert shards_of(config) == shards


def train(built: MultiTaskModel, rows: Rows, weighting: Any, shards: int) -> list[np.ndarray]:
    weighting.configure(built.tasks)
    step = TrainingStep(built, weighting, LazyAdam(), seed=0, shards=shards)
    stream = BatchStream(rows, built.layout, 25, seed=0)
    step.run({name: value for name, value in stream.block(0, 8).items()}, tf.constant(0, tf.int64))
    return [variable.numpy() for variable in built.trainable_variables]


@pytest.mark.slow
def test_weightings_see_the_gradients_of_the_whole_batch() -> None:
    results = []
    for shards in (1, 3):
        built = without_dropout("mmoe")
        results.append(train(built, ROWS, PCGrad(), shards))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
