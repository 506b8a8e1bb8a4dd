"""Every loss, found by the files in `conf/loss`, and the values of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contracts
import numpy as np
import pytest
import tensorflow as tf
from examples import Rows, layout, model, optimizer, randomise, weighting

from funrec.config.build import resolve
from funrec.config.catalogue import read_choice
from funrec.config.compose import compose
from funrec.experiment.building import build_model
from funrec.models.funnels.base import from_logit
from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.bce import BinaryCrossEntropy
from funrec.models.losses.focal import Focal
from funrec.models.losses.mse import SquaredError
from funrec.models.model import MultiTaskModel
from funrec.schema import Task
from funrec.training.trainer import Trainer
from funrec.utils.errors import InputError

LOSSES = contracts.names("loss")
LABEL = tf.constant([1.0, 0.0, 1.0, 0.0])
LOGIT = tf.constant([0.3, -1.2, -2.0, 4.0])


def predict(logit: tf.Tensor) -> Prediction:
    return Prediction(from_logit(logit), logit[None])


def build(loss: Any, kind: str = "binary") -> MultiTaskModel:
    tasks = (Task("click", "click", kind=kind, loss=loss), Task("like", "like"))
    built = build_model(compose([])["model"], tasks, contracts.INPUTS, "float32")
    built.initialise(0, contracts.RATES, contracts.COUNTS)
    return built


def build_by_kind(name: str) -> MultiTaskModel:
    """Build the loss for the kind it serves, and where it reads a feature's codes, on one that there is."""
    options = read_choice("loss", name, "loss")
    kind = resolve(options["_target_"], Loss, "loss").kind
    return build({"name": name, "by": "item"} if "by" in options else name, kind)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_finite_gradients_that_reach_its_task_alone(name: str) -> None:
    built = build_by_kind(name)
    rows = contracts.nested_rows(rows=16)
    batch = {
        "ids": rows.ids,
        "labels": tf.constant(rows.labels[:, :2]),
        "groups": tf.constant(np.arange(16) % 4, tf.int32),
    }
    towers = len(built.funnel.towers) * max(loss.outputs for loss in built.criteria)
    for size in (0.0, 1.0, 27.6, 90.0):
        signs = np.sign(np.random.default_rng(0).normal(size=(towers, 16))).astype(np.float32)
        logits = tf.constant(size * signs)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = built.task_losses(logits, batch)[0]
        gradient = tape.gradient(loss, logits).numpy()
        assert np.isfinite(loss) and np.isfinite(gradient).all()
        assert not gradient[1].any()
        assert size or gradient[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_weight_do_not_count(name: str) -> None:
    built = build_by_kind(name)
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2 * max(loss.outputs for loss in built.criteria), 16)).astype(np.float32)
    labels = (draw.random((16, 2)) < 0.5).astype(np.float32)
    groups = np.arange(16, dtype=np.int32) % 4
    weights = np.ones((16, 2), np.float32)
    weights[8:] = 0
    ids = contracts.nested_rows(rows=16).ids
    whole = {"ids": ids, "labels": tf.constant(labels), "weights": tf.constant(weights), "groups": tf.constant(groups)}
    half = {"ids": ids[:8], "labels": tf.constant(labels[:8]), "groups": tf.constant(groups[:8])}
    found = built.task_losses(tf.constant(logits), whole)
    np.testing.assert_allclose(found, built.task_losses(tf.constant(logits[:, :8]), half), rtol=1e-5)


def test_focal_loss_without_focus_is_the_log_loss() -> None:
    np.testing.assert_allclose(
        Focal(gamma=0).per_row(LABEL, predict(LOGIT)), BinaryCrossEntropy().per_row(LABEL, predict(LOGIT)), rtol=1e-6
    )


def test_focal_loss_weighs_a_row_by_how_wrong_it_is() -> None:
    p = 1 / (1 + np.exp(-LOGIT.numpy().astype(np.float64)))
    right = np.where(LABEL.numpy() == 1, p, 1 - p)
    alpha = np.where(LABEL.numpy() == 1, 0.25, 0.75)
    found = Focal(gamma=2.0, alpha=0.25).per_row(LABEL, predict(LOGIT))
    np.testing.assert_allclose(found, -alpha * (1 - right) ** 2 * np.log(right), rtol=1e-5)


def test_a_task_names_its_loss_and_may_set_its_options() -> None:
    assert isinstance(build(None).criteria[0], BinaryCrossEntropy)
    assert isinstance(build(None, "regression").criteria[0], SquaredError)
    focal, other = build({"name": "focal", "gamma": 1.0}).criteria
    assert isinstance(focal, Focal) and focal.gamma == 1.0
    assert isinstance(other, BinaryCrossEntropy)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("focall", r"dataset\.tasks\.click\.loss should be one of .*focal.* Received: focall\. Did you mean focal\?"),
        ("mse", r"dataset\.tasks\.click\.loss should serve a binary task\. Received: mse, for regression tasks\."),
        ({"gamma": 1.0}, r"dataset\.tasks\.click\.loss should name a loss"),
        ({"name": "focal", "gama": 1.0}, r"dataset\.tasks\.click\.loss\.gama: no such key\. Did you mean gamma\?"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_in_one_line(loss: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        build(loss)
    assert "\n" not in str(refused.value)


class WithinGroups(Loss):
    """The squared distance of a row's logit to the mean of its group: needs groups, and reads a second output."""

    needs_groups = True
    outputs = 2

    def over_batch(self, label: Any, prediction: Prediction, weight: Any, groups: Any) -> tf.Tensor:
        logit = prediction.outputs[0] + prediction.outputs[1]
        means = tf.math.unsorted_segment_mean(logit, groups, 50)
        return tf.reduce_mean(tf.square(logit - tf.gather(means, groups)))


def test_groups_and_further_outputs_reach_a_loss_that_asks_for_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = contracts.nested_rows(rows=200)
    rows = Rows(rows.ids, rows.numeric, rows.labels[:, :2], groups=draw.integers(0, 50, 200).astype(np.int32))
    built = model(inputs=layout({"user": 20, "item": 30}, ["age"]), losses=[WithinGroups(), BinaryCrossEntropy()])
    assert built(contracts.batch_of(rows)).shape == (4, 200)
    randomise(built)
    trainer = Trainer(epochs=1, batch_size=50, monitor=None)
    result = trainer.fit(built, rows, weighting(), optimizer(), lambda: {}, tmp_path, seed=0)
    assert np.isfinite(result.history[0]["loss_click"])
    rows.groups = None
    with pytest.raises(InputError, match=r"^dataset\.group should name a column"):
        trainer.fit(built, rows, weighting(), optimizer(), lambda: {}, tmp_path, seed=0)
