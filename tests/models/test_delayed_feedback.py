"""The loss of labels that come late: gradients, and a planted rate that log loss misses and it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from funrec import run_experiment
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.delays import estimate_law
from funrec.experiment.fitting import check_parts
from funrec.metrics.base import sigmoid
from funrec.models.funnels.base import from_logit
from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.bce import BinaryCrossEntropy
from funrec.models.losses.delayed_feedback import DelayedFeedback
from funrec.runs.record import read_predictions
from funrec.utils.errors import InputError

LABEL = tf.constant([1.0, 0.0, 1.0, 0.0, 0.0])
LOGIT = np.array([0.3, -1.2, -2.0, 4.0, 0.5])
SEEN = np.array([0.9, 0.5, 0.2, 0.7, 0.0])


def predict(logit: np.ndarray, seen: np.ndarray | None = SEEN) -> Prediction:
    logit = tf.constant(logit, tf.float32)
    observed = None if seen is None else tf.constant(seen, tf.float32)
    return Prediction(from_logit(logit), logit[None], observed=observed)


def gradient(loss: DelayedFeedback) -> np.ndarray:
    logit = tf.constant(LOGIT, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logit)
        total = tf.reduce_sum(
            loss.per_row(LABEL, Prediction(from_logit(logit), logit[None], observed=SEEN.astype("f")))
        )
    return tape.gradient(total, logit).numpy()


def test_the_likelihood_is_that_of_labels_seen_with_their_chance() -> None:
    def in_numpy(logit: np.ndarray) -> np.ndarray:
        p, y = 1 / (1 + np.exp(-logit)), LABEL.numpy()
        return -(y * np.log(p) + (1 - y) * np.log1p(-p * SEEN))

    np.testing.assert_allclose(DelayedFeedback().per_row(LABEL, predict(LOGIT)), in_numpy(LOGIT), rtol=1e-5, atol=1e-6)
    step = 1e-5
    differences = (in_numpy(LOGIT + step) - in_numpy(LOGIT - step)) / (2 * step)
    np.testing.assert_allclose(gradient(DelayedFeedback()), differences, rtol=1e-4, atol=1e-6)


def test_importance_weights_have_the_gradient_of_the_likelihood_over_the_chance() -> None:
    found = gradient(DelayedFeedback("importance", least_observed=0.3))
    counted = SEEN >= 0.3
    np.testing.assert_allclose(found[counted], (gradient(DelayedFeedback())[counted] / SEEN[counted]), rtol=1e-5)
    assert not found[~counted].any()


@pytest.mark.parametrize("weighting", ["likelihood", "importance"])
def test_labels_that_are_all_seen_have_the_log_loss(weighting: str) -> None:
    plain = BinaryCrossEntropy().per_row(LABEL, predict(LOGIT))
    for seen in (None, np.ones(5)):
        np.testing.assert_allclose(DelayedFeedback(weighting).per_row(LABEL, predict(LOGIT, seen)), plain, rtol=1e-5)


def test_a_planted_rate_is_found_although_a_third_of_the_labels_come_too_late() -> None:
    draw = np.random.default_rng(0)
    kind, elapsed = draw.integers(0, 2, 20_000), draw.uniform(0, 60, 20_000)
    delay = draw.exponential(30.0, kind.size)
    converts = (draw.random(kind.size) < np.array([0.1, 0.4])[kind]) & (delay <= 60)  # within the window
    seen = converts & (delay <= elapsed)
    observed = tf.constant(estimate_law(delay[seen], elapsed[seen]).chance(elapsed), tf.float32)

    def learn(loss: Loss) -> np.ndarray:
        logits = tf.Variable([-1.0, -1.0])
        for _ in range(60):
            with tf.GradientTape() as tape:
                by_row = tf.gather(logits, kind)
                prediction = Prediction(from_logit(by_row), by_row[None], observed=observed)
                total = loss.over_batch(tf.constant(seen, tf.float32), prediction, None, None)
            logits.assign_sub(8.0 * tf.convert_to_tensor(tape.gradient(total, logits)))
        return 1 / (1 + np.exp(-logits.numpy()))

    true = np.array([converts[kind == one].mean() for one in (0, 1)])
    deviation = np.array([seen[kind == one].sum() ** -0.5 for one in (0, 1)])
    assert (learn(BinaryCrossEntropy()) < 0.7 * true).all()
    for weighting in ("likelihood", "importance"):
        assert (np.abs(learn(DelayedFeedback(weighting)) / true - 1) < 3 * deviation + 0.03).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.tasks.is_like.loss=delayed_feedback"], r"is_like\.observed_after should say how long after .* null"),
        (
            ["+dataset.tasks.is_like.observed_after=day", "dataset.tasks.is_like.loss=focal"],
            r"is_like\.loss should be delayed_feedback where its labels come late .* Received: focal\.",
        ),
        (
            ["+dataset.tasks.is_like.observed_after=day", "model=esmm", "model/funnel=escm2_ips"],
            r"model\.funnel should be esmm or independent .* Received: escm2_ips, which takes a label of 0 at once\.",
        ),
    ],
)
def test_a_label_that_comes_late_is_never_read_as_a_plain_0(overrides: list[str], message: str) -> None:
    config = compose(overrides)
    with pytest.raises(InputError, match=message):
        check_parts(config, build(config["dataset"], Dataset, "dataset"))


@pytest.mark.slow
def test_a_run_on_labels_that_come_late_predicts_as_many_as_come(workdir: Path) -> None:
    draw = np.random.default_rng(0)
    hour, delay = np.sort(draw.uniform(0, 100, 6000)), draw.exponential(40.0, 6000)
    buy = (draw.random(6000) < 0.4) & (delay < 80)
    log = pl.DataFrame({"item": np.arange(6000) % 5, "hour": hour, "delay": delay, "buy": buy.astype(int)})
    overrides = ("dataset.time=hour", "dataset.split={by: time, valid_from: 80}", "+dataset.features={item: {}}")
    found = {}
    for arm, task in {
        "late": "observed_after: delay",
        "plain": 'label: "buy = 1 AND (hour >= 80 OR hour + delay < 80)"',
    }.items():
        chosen = f"+dataset.tasks={{buy: {{{task}}}}}"
        run = run_experiment("logistic", *overrides, chosen, "trainer.epochs=6", "trainer.monitor=null", data=log)
        found[arm] = sigmoid(read_predictions(run.path, ["score_buy"])["score_buy"]).mean()
    assert found["plain"] < 0.7 * buy.mean()
    assert found["late"] == pytest.approx(buy.mean(), rel=0.1)
