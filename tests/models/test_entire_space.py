"""ESCM2 and DCMT: their risks in NumPy, and what makes them estimates over all exposures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from funrec.models.funnels.dcmt import DCMT
from funrec.models.funnels.escm2_dr import ESCM2DR
from funrec.models.funnels.escm2_ips import ESCM2IPS
from funrec.models.structure import Structure
from funrec.schema import Task

Array = NDArray[Any]
TASKS = (Task("click"), Task("buy", after="click"))


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def risk_of(funnel: ESCM2IPS, logits: Array, labels: Array, weights: Array | None = None) -> tuple[float, Array]:
    funnel.configure(Structure(TASKS))
    tower_logits = tf.constant(logits[: len(funnel.towers)], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tower_logits)
        probabilities = funnel.combine(tower_logits)
        weight = None if weights is None else tf.constant(weights, tf.float32)
        losses = funnel.extra_losses(tower_logits, probabilities, tf.constant(labels, tf.float32), weight)
    assert list(losses) == ["buy"]
    return float(losses["buy"]), tape.gradient(losses["buy"], tower_logits).numpy()


def formula(funnel: ESCM2IPS, logits: Array, labels: Array, weights: Array, propensity: Array) -> float:
    o, y = labels.T
    r, w = sigmoid(logits[1]), weights[:, 1] * np.sign(weights[:, 0])
    error = -np.log(np.where(y == 1, r, 1 - r))
    inverse = o / np.maximum(propensity, funnel.least_propensity)
    if isinstance(funnel, DCMT):
        c = sigmoid(logits[2])
        other = (1 - o) / np.maximum(1 - propensity, funnel.least_propensity)
        factual = np.average(error, weights=inverse * w)
        risk = factual + np.average(-np.log(c), weights=other * w)
        return funnel.cvr_weight * (risk + funnel.consistency * np.average(abs(1 - r - c), weights=w))
    if isinstance(funnel, ESCM2DR):
        imputed = np.logaddexp(0, logits[2])
        risk = np.average(imputed + inverse * (error - imputed), weights=w)
        return funnel.cvr_weight * (risk + np.average(inverse * (error - imputed) ** 2, weights=w))
    return funnel.cvr_weight * np.average(inverse * error, weights=w)


def draw(rows: int = 30) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(0)
    clicked = random.random(rows) < 0.5
    labels = np.stack([clicked, clicked & (random.random(rows) < 0.4)], axis=1).astype(float)
    weights = np.where(random.random((rows, 2)) < 0.2, 0.0, random.uniform(0.5, 2, (rows, 2)))
    return random.normal(size=(3, rows)).astype(np.float32).astype(float), labels, weights


@pytest.mark.parametrize("funnel", [ESCM2IPS(0.7), ESCM2DR(0.7), DCMT(0.3, cvr_weight=0.7)], ids=["ips", "dr", "dcmt"])
def test_a_risk_and_its_gradient_equal_the_papers_formula(funnel: ESCM2IPS) -> None:
    logits, labels, weights = draw()
    propensity = sigmoid(logits[0])
    value, gradient = risk_of(funnel, logits, labels, weights)
    assert value == pytest.approx(formula(funnel, logits, labels, weights, propensity), rel=1e-5)
    assert not gradient[0].any()  # the propensity is no way to lower the risk
    for tower in range(1, len(funnel.towers)):
        if tower == 1 and isinstance(funnel, ESCM2DR):
            continue  # what the imputation is taught by does not move the step; the next test is about it
        for row in range(labels.shape[0]):
            moved = [logits.copy(), logits.copy()]
            moved[0][tower, row] += 1e-5
            moved[1][tower, row] -= 1e-5
            up, down = (formula(funnel, each, labels, weights, propensity) for each in moved)
            assert gradient[tower, row] == pytest.approx((up - down) / 2e-5, abs=1e-5)


def test_the_step_of_the_doubly_robust_risk_moves_as_that_by_inverse_propensities() -> None:
    logits, labels, weights = draw()
    ips, dr = risk_of(ESCM2IPS(), logits, labels, weights)[1], risk_of(ESCM2DR(), logits, labels, weights)[1]
    np.testing.assert_allclose(dr[1], ips[1], atol=1e-7)


def clicks(rows: int = 400_000) -> tuple[Array, Array, Array, float]:
    """Return logits with the true chance of a click, labels with selection, and the step's true risk on all rows."""
    random = np.random.default_rng(1)
    taste = random.normal(size=rows)
    click_logit, buy = taste - 0.5, random.random(rows) < sigmoid(1.5 * taste)  # those who would buy click more
    clicked = random.random(rows) < sigmoid(click_logit)
    step = np.full(rows, 0.4)
    risk = float(np.mean(np.where(buy, -np.log(sigmoid(step)), -np.log(1 - sigmoid(step)))))
    expected = sigmoid(1.5 * taste) * -np.log(sigmoid(step)) + (1 - sigmoid(1.5 * taste)) * -np.log(1 - sigmoid(step))
    labels = np.stack([clicked, clicked & buy], axis=1).astype(float)
    return np.stack([click_logit, step, np.log(np.expm1(expected))]), labels, expected, risk


def test_inverse_propensities_undo_the_selection_of_clicks() -> None:
    logits, labels, _, risk = clicks()
    on_clicks = labels[:, 0] == 1
    error = np.where(labels[:, 1] == 1, -np.log(sigmoid(0.4)), -np.log(1 - sigmoid(0.4)))
    assert abs(error[on_clicks].mean() - risk) > 0.05  # clicks alone are off
    assert risk_of(ESCM2IPS(), logits, labels)[0] == pytest.approx(risk, abs=0.01)


def test_the_doubly_robust_risk_is_right_with_wrong_propensities_where_the_imputation_is_right() -> None:
    logits, labels, expected, risk = clicks()
    logits[0] = 0.3
    inverse = labels[:, 0] / sigmoid(0.3)
    error = np.where(labels[:, 1] == 1, -np.log(sigmoid(0.4)), -np.log(1 - sigmoid(0.4)))
    taught = float(np.mean(inverse * (error - expected) ** 2))
    assert risk_of(ESCM2DR(), logits, labels)[0] - taught == pytest.approx(risk, abs=0.01)
    assert abs(risk_of(ESCM2IPS(), logits, labels)[0] - risk) > 0.05
