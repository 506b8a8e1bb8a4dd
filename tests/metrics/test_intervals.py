"""The bootstrap against plain resampling, and against influence values."""

import numpy as np
import pytest
from runs import noisy, planted

from funrec.metrics import TaskRows, auc, group_auc
from funrec.metrics.auc import AUC, PRAUC
from funrec.metrics.base import Sample
from funrec.metrics.errors import RMSE, LogLoss
from funrec.metrics.gauc import GAUC
from funrec.metrics.intervals import RESAMPLES, Bootstrapped, scaled_deviations


def sample_of(rows):
    return Sample(rows["labels"][:, 0], rows["group"], int(rows["group"].max()) + 1, has_groups=True)


def test_a_resample_is_the_rows_of_the_users_drawn():
    rows = planted(users=30)
    scores = rows["signal"][:, 0].round(1).astype(np.float32)  # with ties
    labels, users = rows["labels"][:, 0], rows["group"]
    values = {"auc": [], "gauc": []}
    random = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        drawn = random.integers(0, 30, 30)
        index = np.concatenate([np.flatnonzero(users == user) for user in drawn])
        place = np.concatenate([np.full(np.sum(users == user), place) for place, user in enumerate(drawn)])
        values["auc"].append(auc(labels[index], scores[index]))
        values["gauc"].append(group_auc(place, labels[index], scores[index]).value)
    for metric, expected in ((AUC(), values["auc"]), (GAUC(), values["gauc"])):
        value, deviations = Bootstrapped(metric, sample_of(rows)).measure(scores)
        assert value == pytest.approx(metric.statistic(sample_of(rows)).measure(scores)[0], abs=1e-12)
        np.testing.assert_allclose(deviations, scaled_deviations(np.array(expected)), atol=1e-12)


def test_without_influence_values_a_difference_is_bootstrapped_in_pairs():
    rows = planted(users=200, seed=2)
    first, second = (noisy(rows, noise, seed)[:, 0] for noise, seed in ((1.0, 0), (1.2, 1)))
    statistic = PRAUC().statistic(sample_of(rows))
    value, deviations = statistic.measure(first)
    assert value == PRAUC().value(TaskRows(rows["labels"][:, 0], first))
    error = np.linalg.norm(deviations - statistic.measure(second)[1])
    jackknife = []
    for user in range(200):
        kept = rows["group"] != user
        labels = rows["labels"][kept, 0]
        one, other = (PRAUC().value(TaskRows(labels, scores[kept])) for scores in (first, second))
        jackknife.append(one - other)
    # The standard error of a standard error from 200 resamples is 5% of it; four of them.
    assert error == pytest.approx(np.sqrt(199 / 200 * np.sum((jackknife - np.mean(jackknife)) ** 2)), rel=0.2)


@pytest.mark.parametrize("metric", [AUC(), GAUC(), LogLoss(), RMSE()], ids=lambda metric: metric.name)
def test_bootstrap_and_influence_values_agree_on_the_error_of_a_paired_difference(metric):
    rows = planted(users=400, seed=1)
    scores = [noisy(rows, noise, seed)[:, 0] for noise, seed in ((1.0, 0), (1.5, 1))]
    errors = []
    for statistic in (metric.statistic(sample_of(rows)), Bootstrapped(metric, sample_of(rows))):
        first, second = (statistic.measure(each)[1] for each in scores)
        errors.append(np.linalg.norm(first - second))
    # The standard error of a standard error from 200 resamples is 5% of it; four of them.
    assert errors[1] == pytest.approx(errors[0], rel=0.2)


def test_a_run_differs_from_itself_by_nothing_in_any_resample():
    rows = planted(users=40)
    scores = noisy(rows, 1.0, 0)[:, 0]
    first, second = (Bootstrapped(AUC(), sample_of(rows)).measure(scores)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_resample_without_a_positive_has_no_deviation():
    deviations = scaled_deviations(np.array([0.5, np.nan, 0.7]))
    assert deviations[1] == 0
    assert deviations @ deviations == pytest.approx(np.var([0.5, 0.7], ddof=1))
