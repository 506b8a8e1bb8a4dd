"""The bootstrap against plain resampling, and against influence values."""

import numpy as np
import pytest
from runs import noisy, planted

from funrec.metrics import TaskRows, auc, group_auc
from funrec.metrics.auc import AUC, PRAUC
from funrec.metrics.base import Sample
from funrec.metrics.errors import RMSE, LogLoss
from funrec.metrics.gauc import GAUC
from funrec.metrics.intervals import Bootstrapped, Resamples, scaled_deviations
from funrec.metrics.ranking import NDCGAtK
from funrec.utils.errors import InputError


def sample_of(rows):
    return Sample(rows["labels"][:, 0], rows["group"], int(rows["group"].max()) + 1, has_groups=True)


def statistics_of(rows):
    return [metric.statistic(sample_of(rows)) for metric in (AUC(), GAUC(), LogLoss(), RMSE())]


def test_resamples_reweigh_as_if_the_users_rows_were_repeated():
    rows = planted(users=30)
    scores = rows["signal"][:, 0].round(1).astype(np.float32)  # with ties
    labels, users = rows["labels"][:, 0], rows["group"]
    values = {"auc": [], "gauc": []}
    random = np.random.default_rng(0)
    for _ in range(100):
        drawn = random.integers(0, 30, 30)
        index = np.concatenate([np.flatnonzero(users == user) for user in drawn])
        place = np.concatenate([np.full(np.sum(users == user), place) for place, user in enumerate(drawn)])
        values["auc"].append(auc(labels[index], scores[index]))
        values["gauc"].append(group_auc(place, labels[index], scores[index]).value)
    resamples = Resamples(30, 100, seed=0)
    of_auc, of_gauc, *_ = statistics_of(rows)
    np.testing.assert_allclose(of_auc.measure(scores, resamples)[1], scaled_deviations(np.array(values["auc"])))
    np.testing.assert_allclose(of_gauc.measure(scores, resamples)[1], scaled_deviations(np.array(values["gauc"])))


@pytest.mark.parametrize("metric", [AUC(), GAUC(), LogLoss(), NDCGAtK(3)], ids=lambda metric: metric.name)
def test_a_metric_measured_again_on_every_resample_varies_as_its_reweighted_rows_do(metric):
    rows = planted(users=40)
    scores = rows["signal"][:, 0].round(1).astype(np.float32)
    resamples = Resamples(40, 100)
    again = Bootstrapped(metric, sample_of(rows)).measure(scores, resamples)
    quick = metric.statistic(sample_of(rows)).measure(scores, resamples)
    assert again[0] == pytest.approx(quick[0], abs=1e-12)
    np.testing.assert_allclose(again[1], quick[1], atol=1e-12)


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


@pytest.mark.parametrize("place", range(4))
def test_bootstrap_and_influence_values_agree_on_the_error_of_a_paired_difference(place):
    rows = planted(users=400, seed=1)
    first, second = (noisy(rows, noise, seed)[:, 0] for noise, seed in ((1.0, 0), (1.5, 1)))
    resamples = Resamples(400, 2000)
    statistic = statistics_of(rows)[place]
    by_users = statistic.measure(first)[1] - statistic.measure(second)[1]
    by_resamples = statistic.measure(first, resamples)[1] - statistic.measure(second, resamples)[1]
    # The standard error of a standard error from 2000 resamples is 1 / sqrt(4000) = 1.6% of it; four of them.
    assert np.linalg.norm(by_resamples) == pytest.approx(np.linalg.norm(by_users), rel=0.064)


def test_a_run_differs_from_itself_by_nothing_in_any_resample():
    rows = planted(users=40)
    scores = noisy(rows, 1.0, 0)[:, 0]
    resamples = Resamples(40, 100)
    for statistic in statistics_of(rows):
        np.testing.assert_array_equal(statistic.measure(scores, resamples)[1], statistic.measure(scores, resamples)[1])


def test_a_resample_without_a_positive_has_no_deviation():
    deviations = scaled_deviations(np.array([0.5, np.nan, 0.7]))
    assert deviations[1] == 0
    assert deviations @ deviations == pytest.approx(np.var([0.5, 0.7], ddof=1))


@pytest.mark.parametrize("count", [0, -5, 99, True])
def test_too_few_resamples_are_refused(count):
    with pytest.raises(InputError, match="at least 100 resamples"):
        Resamples(10, count)
