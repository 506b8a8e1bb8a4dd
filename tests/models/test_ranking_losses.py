"""Losses within groups against loops over all rows and pairs of a group, and where they are refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import contracts
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from funrec.config.compose import compose
from funrec.experiment.building import build_model
from funrec.models.funnels.base import from_logit
from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.bce import BinaryCrossEntropy
from funrec.models.losses.jrc import JRC
from funrec.models.losses.listwise import Listwise
from funrec.models.losses.pairwise import Pairwise
from funrec.schema import Task
from funrec.utils.errors import InputError

Array = NDArray[np.float64]


def pairwise(labels: Array, outputs: Array, weights: Array, groups: Array) -> float:
    """Every pair of rows, one at a time."""
    total = pairs = 0.0
    for i, j in product(range(len(labels)), repeat=2):
        if groups[i] == groups[j] and labels[i] == 1 and labels[j] == 0:
            total += weights[i] * weights[j] * np.logaddexp(0, outputs[0, j] - outputs[0, i])
            pairs += weights[i] * weights[j]
    return total / pairs


def log_softmax(scores: Array) -> Array:
    return scores - np.logaddexp.reduce(scores)


def listwise(labels: Array, outputs: Array, weights: Array, groups: Array) -> float:
    losses = []
    for group in np.unique(groups):
        rows = (groups == group) & (weights > 0)
        share = weights[rows] * labels[rows]
        if 0 < labels[rows].sum() < rows.sum():
            losses.append(-(share / share.sum()) @ log_softmax(outputs[0, rows]))
    return float(np.mean(losses))


def jrc(labels: Array, outputs: Array, weights: Array, groups: Array) -> float:
    """The paper's two logits of every row, `f_0` and `f_1`."""
    f = np.stack([outputs[1] - outputs[0] / 2, outputs[1] + outputs[0] / 2])
    calibration, ranking = np.zeros(len(labels)), np.zeros(len(labels))
    for i, label in enumerate(labels.astype(int)):
        others = (groups == groups[i]) & (weights > 0)
        calibration[i] = np.logaddexp(*f[:, i]) - f[label, i]
        ranking[i] = np.logaddexp.reduce(f[label, others]) - f[label, i] if weights[i] else 0.0
    return float(weights @ (0.3 * calibration + 0.7 * ranking) / weights.sum())


CASES: dict[str, tuple[Loss, Callable[..., float]]] = {
    "pairwise": (Pairwise(), pairwise),
    "listwise": (Listwise(), listwise),
    "jrc": (JRC(alpha=0.3), jrc),
}


def draw(seed: int, rows: int = 24, scale: float = 1.0) -> tuple[Array, Array, Array, Array]:
    """Return labels, outputs, weights (some of them 0) and groups; one group has a single row, one a single label."""
    random = np.random.default_rng(seed)
    groups = np.concatenate([[90], np.full(3, 40), random.integers(0, 5, rows - 4) * 7])
    labels = (random.random(rows) < 0.4).astype(float)
    labels[1:4] = 1.0
    weights = np.where(random.random(rows) < 0.2, 0.0, random.uniform(0.5, 2, rows))
    return labels, scale * random.normal(size=(2, rows)), weights, groups


def compute(loss: Loss, outputs: Any, labels: Any, weights: Any, groups: Any) -> tuple[float, Array]:
    outputs = tf.constant(outputs, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        prediction = Prediction(from_logit(outputs[0]), outputs[: loss.outputs])
        weight = None if weights is None else tf.constant(weights, tf.float32)
        value = loss.over_batch(tf.constant(labels, tf.float32), prediction, weight, tf.constant(groups, tf.int32))
    return float(value), tape.gradient(value, outputs).numpy()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_ranking_loss_and_its_gradient_equal_a_loop_over_the_rows_of_each_group(name: str, scale: float) -> None:
    loss, formula = CASES[name]
    for seed in range(5):
        labels, outputs, weights, groups = draw(seed, scale=scale)
        value, gradient = compute(loss, outputs, labels, weights, groups)
        outputs = outputs.astype(np.float32).astype(float)
        assert value == pytest.approx(formula(labels, outputs, weights, groups), rel=1e-5, abs=1e-5)
        step = 1e-4
        for place in np.ndindex(loss.outputs, outputs.shape[1]):
            moved = [outputs.copy(), outputs.copy()]
            moved[0][place] += step
            moved[1][place] -= step
            up, down = (formula(labels, values, weights, groups) for values in moved)
            assert gradient[place] == pytest.approx((up - down) / (2 * step), abs=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_weights_of_one_change_nothing(name: str) -> None:
    labels, outputs, weights, groups = draw(0)
    found = compute(CASES[name][0], outputs, labels, None, groups)
    np.testing.assert_allclose(
        found[0], compute(CASES[name][0], outputs, labels, np.ones_like(weights), groups)[0], 1e-5
    )


@pytest.mark.parametrize("name", ["pairwise", "listwise"])
def test_without_a_pair_the_loss_is_zero_and_so_is_its_gradient(name: str) -> None:
    labels, outputs, _, _ = draw(0)
    value, gradient = compute(CASES[name][0], outputs, labels, None, np.arange(labels.size))
    assert value == 0.0 and not gradient.any()


def test_jrc_with_all_weight_on_calibration_is_the_log_loss() -> None:
    labels, outputs, weights, groups = draw(1)
    for one, other in zip(
        compute(JRC(alpha=1.0), outputs, labels, weights, groups),
        compute(BinaryCrossEntropy(), outputs, labels, weights, groups),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize(("loss", "message"), [("pairwise", "which multiplies probabilities"), ("jrc", "2 outputs")])
def test_a_funnel_that_multiplies_probabilities_refuses_a_ranking_loss(loss: str, message: str) -> None:
    tasks = (Task("click"), Task("like", after="click", loss=loss))
    config = compose(["model=esmm"])["model"]
    with pytest.raises(InputError, match=message) as refused:
        build_model(config, tasks, contracts.INPUTS, "float32")
    assert "\n" not in str(refused.value) and "model/funnel=independent" in str(refused.value)
