"""Every weighting in training: masked rows, a regression, batches without a task, and what the history then shows."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import polars as pl
import pytest
import tensorflow as tf
from commands import Command
from examples import Rows, layout, model, optimizer
from weightings import NAMES, make

from funrec.models.backbones.base import Backbone
from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.shared_bottom import SharedBottom
from funrec.schema import Task
from funrec.training.batches import BatchStream
from funrec.training.step import TrainingStep

TASKS = (Task("click"), Task("like"), Task("watch", kind="regression"))
INPUTS = layout({"user": 20, "item": 30})


def masked_rows(rows: int = 1280) -> Rows:
    """Return rows in which a like is known for few users, and for none in a stretch of batches."""
    draw = np.random.default_rng(0)
    ids = np.stack([draw.integers(1, 20, rows), draw.integers(1, 30, rows)], axis=1).astype(np.int32)
    click = draw.random(rows) < np.where(ids[:, 0] > 10, 0.8, 0.2)
    like = draw.random(rows) < np.where(ids[:, 1] > 15, 0.7, 0.1)
    watch = 0.1 * ids[:, 0] + 0.1 * draw.normal(size=rows)
    masks = np.ones((rows, 3), bool)
    masks[:, 1] = draw.random(rows) < 0.05
    labels = np.stack([click, like, watch], axis=1).astype(np.float32)
    return Rows(ids, np.zeros((rows, 0), np.float32), labels, masks)


def train(name: str, rows: Rows, epochs: int = 3, backbone: Backbone | None = None) -> dict[str, np.ndarray]:
    """Return what the steps report, all epochs one after the other."""
    built = model(backbone or SharedBottom(units=(16,), dropout=0.1), INPUTS, TASKS)
    stream = BatchStream(rows, INPUTS, batch_size=16, seed=0)
    step = TrainingStep(built, make(name, TASKS), optimizer(0.003), seed=0)
    reports = []
    for epoch in range(epochs):
        first, last = stream.steps_until(epoch), stream.steps_until(epoch + 1)
        report = step.run(stream.block(first, last - first), tf.constant(first, tf.int64))
        reports.append({key: value.numpy() for key, value in report.items()})
        step.end_epoch(reports[-1]["losses"].mean(0))
    assert all(np.isfinite(value.numpy()).all() for value in step.state.values())
    assert all(np.isfinite(variable.numpy()).all() for variable in built.trainable_variables)
    return {key: np.concatenate([report[key] for report in reports]) for key in reports[0]}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_losses_though_batches_miss_a_task(name: str) -> None:
    report = train(name, masked_rows())
    losses, active = report["losses"], report["active"]
    assert 0.2 < 1 - active[:, 1].mean() < 0.8  # many batches without a like, many with
    assert (report["weights"][~active] == 0).all() and (losses[~active] == 0).all()
    assert np.isfinite(losses).all()
    for task in (0, 2):
        assert losses[-40:, task].mean() < 0.98 * losses[:3, task].mean(), TASKS[task].name


def one_epoch(name: str) -> dict[str, np.ndarray]:
    return train(name, masked_rows(rows=320), 1, MMoE(num_experts=2, expert_units=(16,), dropout=0.1))


@pytest.fixture(scope="module")
def pcgrad() -> dict[str, np.ndarray]:
    return one_epoch("pcgrad")


@pytest.mark.slow
def test_a_schemes_training_is_the_same_twice(pcgrad: dict[str, np.ndarray]) -> None:
    first, second = pcgrad, one_epoch("pcgrad")
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.slow
def test_the_gradient_of_even_weights_is_that_of_fixed_ones(pcgrad: dict[str, np.ndarray]) -> None:
    """A Gramian scheme whose weights are all 1 makes the steps that `fixed` makes, dropout included."""
    fixed, without_say = one_epoch("fixed"), pcgrad
    same = (without_say["weights"] == np.where(without_say["active"], 1, 0)).all(1)
    until = int(np.argmin(same)) if not same.all() else len(same)
    assert until >= 1
    np.testing.assert_allclose(without_say["losses"][: until + 1], fixed["losses"][: until + 1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_famo_reads_the_losses_after_the_update_under_the_same_dropout() -> None:
    moments = {}
    for rate in (1e-9, 0.01):
        built = model(MMoE(num_experts=2, expert_units=(16,), dropout=0.5), INPUTS, TASKS)
        stream = BatchStream(masked_rows(rows=64), INPUTS, batch_size=64, seed=0)
        step = TrainingStep(built, make("famo", TASKS, "weighting.decay=0"), keras.optimizers.SGD(rate), seed=0)
        step.run(stream.block(0, 1), tf.constant(0, tf.int64))
        moments[rate] = np.abs(step.state["adam_mean"].numpy()).max()
    assert moments[1e-9] < 1e-7 < 1e-5 < moments[0.01]


QUICK = ("dataset.rows=6000", "dataset.users=300", "dataset.videos=100", "trainer=smoke")


@pytest.mark.slow
@pytest.mark.usefixtures("workdir")
def test_the_history_shows_what_a_scheme_did(funrec: Command) -> None:
    done = funrec("run", "model=shared_bottom", "weighting=mgda", *QUICK)
    assert done.code == 0, done.err
    history = pd.DataFrame(pl.read_parquet(_runs()[0] / "history.parquet").to_dicts())
    tasks = ["is_click", "long_view", "is_like"]
    weights = history[[f"weight_{task}" for task in tasks]].iloc[0]
    assert weights.sum() == pytest.approx(1, rel=1e-3) and weights.min() >= 0
    assert (history[[f"gradient_norm_{task}" for task in tasks]] > 0).all(axis=None)
    cosines = history[[f"gradient_cosine_{a}_{b}" for a, b in combinations(tasks, 2)]]
    assert (cosines.abs() <= 1).all(axis=None) and (cosines != 0).all(axis=None)
    assert history["weighting_fallbacks"].tolist() == [0]
    assert json.loads((_runs()[0] / "record.json").read_text())["weighting_fallbacks"] == 0
    assert all(f"loss_{task}" in history for task in tasks)


@pytest.mark.usefixtures("workdir")
@pytest.mark.parametrize("backbone", ["single_task", "logistic"])
def test_a_scheme_that_compares_gradients_refuses_a_model_that_shares_nothing(funrec: Command, backbone: str) -> None:
    done = funrec("run", f"model={backbone}", "weighting=gradnorm", *QUICK)
    assert done.code == 2
    assert "the tasks share nothing" in done.err and f"model.backbone={backbone}" in done.err
    assert not list(next(iter(_runs())).glob("record.json"))


def _runs() -> list[Path]:
    return list(Path("outputs", "runs").iterdir())
