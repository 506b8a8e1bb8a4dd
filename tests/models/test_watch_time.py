"""Losses of durations and of values that are often 0: planted parameters, gradients, and values at extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from examples import layout
from numpy.typing import NDArray
from scipy import stats

from funrec.models.funnels.base import from_logit
from funrec.models.losses.base import Loss, Prediction
from funrec.models.losses.cread import CREAD
from funrec.models.losses.d2q import D2Q
from funrec.models.losses.huber import Huber
from funrec.models.losses.mse import SquaredError
from funrec.models.losses.quantile import QuantileError
from funrec.models.losses.tpm import TPM
from funrec.models.losses.weighted_logistic import WeightedLogistic
from funrec.models.losses.ziln import ZILN
from funrec.schema import Task
from funrec.utils.errors import InputError

Array = NDArray[Any]
LENGTHS = layout({"duration": 3})
#: Of four kinds of rows: how often nothing is watched, and the lognormal of the rest; kinds 2 and 3 are of long videos.
ZERO, MU, SIGMA = np.array([0.5, 0.2, 0.5, 0.2]), np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 0.8, 0.5, 0.8])
CODES = np.array([1, 1, 2, 2], np.int32)
MEANS = (1 - ZERO) * np.exp(MU + SIGMA**2 / 2)


def ready(loss: Loss, labels: Array, codes: Array | None = None, kind: str = "duration") -> Loss:
    """Return a loss that has seen training labels."""
    loss.configure(Task("watch", kind=kind), LENGTHS)
    loss.state = {name: tf.constant(value) for name, value in loss.fit(labels, codes).items()}
    return loss


def predict(loss: Loss, outputs: Any, codes: Any) -> Prediction:
    outputs = tf.convert_to_tensor(outputs, tf.float32)
    return Prediction(from_logit(outputs[0]), outputs, codes if loss.column is not None else None)


def sample(rows: int = 800) -> tuple[Array, Array]:
    """Return watch times `(4 * rows,)` and their kinds; each kind has the quantiles of its distribution exactly."""
    points = (np.arange(rows) + 0.5) / rows
    times = [
        np.where(
            points < zero, 0.0, stats.lognorm.ppf(np.clip((points - zero) / (1 - zero), 0, 1), sigma, scale=np.exp(mu))
        )
        for zero, mu, sigma in zip(ZERO, MU, SIGMA, strict=True)
    ]
    return np.concatenate(times).astype(np.float32), np.repeat(np.arange(4), rows)


def learn(loss: Loss, steps: int = 400) -> tuple[Loss, Array, Array]:
    """Fit the outputs of every kind of rows; return the loss, the outputs `(outputs, 4)` and the values `(4,)`."""
    labels, kinds = sample()
    codes = CODES[kinds]
    ready(loss, labels, codes)
    start = loss.initial_outputs(labels)
    assert start is not None and len(start) == loss.outputs
    outputs = tf.Variable(np.tile(np.array(start, np.float32)[:, None], (1, 4)))
    first, second = (tf.Variable(tf.zeros_like(outputs)) for _ in range(2))

    @tf.function
    def fit() -> None:
        for place in tf.range(steps):
            with tf.GradientTape() as tape:
                by_row = tf.reshape(tf.tile(outputs[:, :, None], (1, 1, len(kinds) // 4)), (loss.outputs, -1))
                prediction = predict(loss, by_row, tf.constant(codes))
                total = loss.over_batch(tf.constant(labels), prediction, None, None)
            gradient = tape.gradient(total, outputs)
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.99 * second + 0.01 * tf.square(gradient))
            rate = 0.1 * (1 - tf.cast(place, tf.float32) / steps)
            outputs.assign_sub(rate * first / (tf.sqrt(second) + 1e-9))

    fit()
    return loss, outputs.numpy(), loss.value(predict(loss, outputs, tf.constant(CODES))).numpy()


@pytest.mark.slow
def test_ziln_recovers_the_planted_chance_and_lognormal() -> None:
    loss, outputs, values = learn(ZILN())
    np.testing.assert_allclose(1 / (1 + np.exp(outputs[0])), ZERO, atol=0.002)
    np.testing.assert_allclose(outputs[1] + loss.state["log_center"], MU, atol=0.01)
    np.testing.assert_allclose(np.log1p(np.exp(outputs[2])), SIGMA, rtol=0.02)
    np.testing.assert_allclose(values, MEANS, rtol=0.02)


@pytest.mark.slow
def test_the_odds_of_a_weighted_logistic_regression_are_the_mean_watch_time() -> None:
    labels, kinds = sample()
    means = np.array([labels[kinds == kind].mean() for kind in range(4)])
    np.testing.assert_allclose(learn(WeightedLogistic())[2], means, rtol=0.01)
    # As published the odds are the mean over the chance that nothing is watched.
    np.testing.assert_allclose(learn(WeightedLogistic(negatives="unwatched"))[2], means / ZERO, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("quantile", [0.6, 0.9])
def test_quantile_regression_predicts_the_planted_quantile(quantile: float) -> None:
    expected = stats.lognorm.ppf((quantile - ZERO) / (1 - ZERO), SIGMA, scale=np.exp(MU))
    np.testing.assert_allclose(learn(QuantileError(quantile), steps=1500)[2], expected, rtol=0.03)


@pytest.mark.slow
def test_squared_error_predicts_the_mean_in_the_labels_unit() -> None:
    labels, kinds = sample()
    means = [labels[kinds == kind].mean() for kind in range(4)]
    np.testing.assert_allclose(learn(SquaredError())[2], means, rtol=0.01)


@pytest.mark.slow
def test_tpm_recovers_the_planted_mean() -> None:
    np.testing.assert_allclose(learn(TPM(depth=5))[2], MEANS, rtol=0.06)


@pytest.mark.slow
def test_cread_recovers_the_chance_of_each_threshold_and_from_them_the_mean_from_below() -> None:
    loss, outputs, values = learn(CREAD(thresholds=60, restore_weight=0.0, order_weight=0.0))
    thresholds = loss.state["thresholds"].numpy()[:, None]
    exceeded = (1 - ZERO) * stats.lognorm.sf(np.maximum(thresholds, 1e-9), SIGMA, scale=np.exp(MU))
    np.testing.assert_allclose(1 / (1 + np.exp(-outputs)), exceeded, atol=0.02)
    assert ((values > 0.85 * MEANS) & (values < MEANS)).all()


@pytest.mark.slow
def test_d2q_learns_the_quantile_among_videos_of_the_same_length() -> None:
    _, outputs, values = learn(D2Q(quantiles=200))
    labels, kinds = sample()
    for kind in range(4):
        group = np.sort(labels[CODES[kinds] == CODES[kind]])
        own = labels[kinds == kind]
        places = (np.searchsorted(group, own, "left") + np.searchsorted(group, own, "right")) / (2 * group.size)
        assert 1 / (1 + np.exp(-outputs[0, kind])) == pytest.approx(places.mean(), abs=0.01)
        assert np.quantile(group, places.mean() - 0.01) < values[kind] < np.quantile(group, places.mean() + 0.01)
    # The same taste for short and for long videos has the same quantile, however much longer the watch time.
    assert outputs[0, 0] == pytest.approx(outputs[0, 2], abs=0.05)


def test_d2q_reads_the_quantiles_of_all_rows_where_the_length_is_unknown_or_rare() -> None:
    labels = np.arange(1000, dtype=np.float32)
    loss = ready(D2Q(quantiles=10), labels, np.where(labels < 5, 2, 1).astype(np.int32))
    np.testing.assert_allclose(loss.state["table"][0], np.quantile(labels, np.linspace(0, 1, 11)))
    np.testing.assert_allclose(loss.state["table"][2], loss.state["table"][0])
    assert loss.state["table"][1][0] == 5


def test_d2q_gives_equal_watch_times_the_quantile_of_their_middle() -> None:
    labels = np.concatenate([np.zeros(400), np.linspace(1, 10, 600)]).astype(np.float32)
    loss = ready(D2Q(quantiles=10), labels, np.ones(1000, np.int32))
    points = tf.gather(loss.state["table"], [1, 1, 1])
    found = loss.quantile_of(tf.constant([0.0, 10.0, -3.0]), points)
    np.testing.assert_allclose(found, [0.15, 1.0, 0.0], atol=1e-6)


def formula(loss: Loss, label: Array, outputs: Array) -> Array:
    """Return the loss of every row, from the papers' equations in NumPy."""
    state = {name: np.asarray(value, float) for name, value in loss.state.items()}
    p = 1 / (1 + np.exp(-outputs))
    if isinstance(loss, ZILN):
        sigma = np.log1p(np.exp(outputs[2])) + 1e-3
        density = stats.lognorm.logpdf(
            np.maximum(label, 1e-9), sigma, scale=np.exp(outputs[1] + state["log_center"][0])
        )
        likelihood = np.where(label > 0, np.log(p[0]) + density + np.log(np.maximum(label, 1e-9)), np.log(1 - p[0]))
        return -likelihood
    if isinstance(loss, WeightedLogistic):
        return -(label / state["mean"] * np.log(p[0]) + np.log(1 - p[0]))
    if isinstance(loss, D2Q):
        points = state["table"][1]
        return (p[0] - np.interp(label, points, np.linspace(0, 1, points.size))) ** 2
    if isinstance(loss, TPM):
        chances = np.ones((8, label.size))
        for leaf in range(8):
            node = 0
            for turn in np.binary_repr(leaf, 3):
                chances[leaf] *= p[node] if turn == "1" else 1 - p[node]
                node = 2 * node + 1 + int(turn)
        leaves, means = np.digitize(label, state["bounds"]), state["means"] / state["mean"]
        expected = means @ chances
        variance = (means**2) @ chances - expected**2
        own = chances[leaves, np.arange(label.size)]
        return -np.log(own) + 0.3 * (expected - label / state["mean"]) ** 2 + 0.2 * variance
    if isinstance(loss, CREAD):
        above = label > state["thresholds"][:, None]
        error = np.abs(np.diff(state["thresholds"], prepend=0) @ p - label) / state["mean"]
        restoration = np.where(error < 1, error**2 / 2, error - 0.5)
        disorder = np.maximum(np.diff(p, axis=0), 0).sum(0)
        return -np.log(np.where(above, p, 1 - p)).mean(0) + 0.7 * restoration + 0.3 * disorder
    residual = label - outputs[0]
    if isinstance(loss, Huber):
        return np.where(abs(residual) < 0.5, residual**2 / 2, 0.5 * (abs(residual) - 0.25))
    return np.where(residual > 0, 0.7 * residual, -0.3 * residual)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (ZILN(), "regression"),
        (WeightedLogistic(), "duration"),
        (D2Q(quantiles=20), "duration"),
        (TPM(depth=3, regression_weight=0.3, variance_weight=0.2), "duration"),
        (CREAD(thresholds=6, restore_weight=0.7, order_weight=0.3), "duration"),
        (Huber(delta=0.5), "regression"),
        (QuantileError(0.7), "regression"),
    ],
)
def test_a_loss_and_its_gradient_equal_the_papers_formula(loss: Loss, kind: str) -> None:
    random = np.random.default_rng(0)
    train = random.gamma(2.0, 3.0, 2000).astype(np.float32)
    ready(loss, train, np.ones(2000, np.int32), kind)
    label = random.gamma(2.0, 3.0, 12)
    if isinstance(loss, ZILN):
        label[:4] = 0
    outputs = tf.constant(random.normal(size=(loss.outputs, 12)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        rows = loss.per_row(tf.constant(label, tf.float32), predict(loss, outputs, tf.ones(12, tf.int32)))
    exact = outputs.numpy().astype(float)
    np.testing.assert_allclose(rows, formula(loss, label, exact), rtol=2e-4, atol=1e-5)
    gradient = tape.gradient(rows, outputs).numpy()
    for output in range(loss.outputs):
        step = np.zeros_like(exact)
        step[output] = 1e-5
        numeric = (formula(loss, label, exact + step) - formula(loss, label, exact - step)) / 2e-5
        np.testing.assert_allclose(gradient[output], numeric, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("loss", [ZILN(), WeightedLogistic(), D2Q(), TPM(), CREAD(), SquaredError(), QuantileError()])
def test_values_loss_and_gradients_are_finite_at_extremes(loss: Loss) -> None:
    ready(
        loss,
        np.concatenate([np.zeros(3000), np.geomspace(1e-3, 1e6, 1000)]).astype(np.float32),
        np.ones(4000, np.int32),
    )
    for size in (-300.0, -30.0, 0.0, 30.0, 300.0):
        outputs = tf.fill((loss.outputs, 3), size)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            prediction = predict(loss, outputs, tf.ones(3, tf.int32))
            rows = loss.per_row(tf.constant([0.0, 1e-3, 1e6]), prediction)
        assert np.isfinite(rows).all() and np.isfinite(tape.gradient(rows, outputs)).all()
        assert np.isfinite(loss.value(prediction)).all()


def test_the_unit_of_a_duration_changes_no_loss() -> None:
    labels, kinds = sample(200)
    for make in (SquaredError, Huber, QuantileError, WeightedLogistic, TPM, CREAD, D2Q, ZILN):
        losses = []
        for unit in (1.0, 1000.0):
            loss = ready(make(), labels * unit, CODES[kinds])
            prediction = predict(loss, tf.fill((loss.outputs, labels.size), 0.3), tf.constant(CODES[kinds]))
            losses.append(float(loss.over_batch(tf.constant(labels * unit, tf.float32), prediction, None, None)))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_length_that_is_no_feature_with_buckets_is_refused() -> None:
    with pytest.raises(InputError, match=r"^dataset\.tasks\.watch\.loss\.by should name .* Did you mean duration\?"):
        D2Q(by="durations").configure(Task("watch", kind="duration"), LENGTHS)
