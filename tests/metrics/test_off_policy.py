"""Off-policy estimates against their formulas, and over simulated logs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from funrec import InputError
from funrec.metrics.off_policy import Logged, policy_values, softmax_policy


def logged(rows: int = 400, seed: int = 0) -> Logged:
    draw = np.random.default_rng(seed)
    return Logged(
        rewards=(draw.random(rows) < 0.3).astype(float),
        propensities=draw.uniform(0.1, 1, rows),
        target=draw.uniform(0, 1, rows),
        predicted=draw.uniform(0, 1, rows),
        expected=draw.uniform(0, 1, rows),
    )


def test_estimates_are_those_of_their_formulas() -> None:
    one = logged()
    w, r = one.target / one.propensities, one.rewards
    values = {name: found.value for name, found in policy_values(one).items()}
    assert values == pytest.approx(
        {
            "logged": r.mean(),
            "ips": (w * r).mean(),
            "snips": (w * r).sum() / w.sum(),
            "dr": (one.expected + w * (r - one.predicted)).mean(),
        }
    )


def test_the_logging_policy_itself_has_the_mean_reward_by_every_estimator() -> None:
    one = logged()
    same = replace(one, target=one.propensities, expected=one.predicted)
    values = policy_values(same)
    for name in ("ips", "snips", "dr"):
        assert values[name].value == pytest.approx(values["logged"].value)
        assert values[name].high == pytest.approx(values["logged"].high)
    assert same.effective_rows == pytest.approx(400)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.01, np.nan])
def test_what_is_no_propensity_is_refused(propensity: float) -> None:
    one = logged()
    one.propensities[17] = propensity
    with pytest.raises(InputError, match=rf"Received: {propensity:g} in row 17\."):
        replace(one)


def test_a_cold_softmax_takes_the_best_item_and_a_hot_one_any() -> None:
    scores = np.array([[0.0, 1.0, 0.5], [3.0, 2.0, -1.0]])
    assert softmax_policy(scores, 0.01).argmax(axis=1).tolist() == [1, 0]
    assert softmax_policy(scores, 0.01).max(axis=1) == pytest.approx(1)
    np.testing.assert_allclose(softmax_policy(scores, 1e9), 1 / 3)


def test_intervals_cover_the_true_value_of_simulated_logs() -> None:
    draw = np.random.default_rng(1)
    truth = draw.uniform(0, 1, (50, 5))
    target, logging = softmax_policy(truth, 1.0), softmax_policy(draw.normal(size=truth.shape), 2.0)
    value, steps = float((target * truth).sum(axis=1).mean()), logging.cumsum(axis=1)
    model = np.full(truth.shape, 0.5)
    covered = {name: 0 for name in ("ips", "snips", "dr")}
    for _ in range(1000):
        contexts = draw.integers(0, 50, 1000)
        chosen = np.minimum((draw.random(1000)[:, None] > steps[contexts]).sum(axis=1), 4)
        rewards = (draw.random(1000) < truth[contexts, chosen]).astype(float)
        picked = contexts, chosen
        expected = (target * model).sum(axis=1)[contexts]
        found = policy_values(Logged(rewards, logging[picked], target[picked], model[picked], expected))
        for name in covered:
            covered[name] += found[name].low <= value <= found[name].high
    # Of 1,000 intervals, 950 cover, give or take 3 standard deviations of 6.9.
    assert all(929 <= count <= 971 for count in covered.values())
