"""Influence values against explicit formulas, jackknives and brute force."""

import numpy as np
import pytest
from runs import planted

from funrec.comparison.measuring import Rows, build_statistics
from funrec.metrics import TaskRows, auc, group_auc, standard_metrics
from funrec.metrics.auc import AUC, PRAUC
from funrec.metrics.errors import MAE, RMSE, LogLoss
from funrec.metrics.gauc import GAUC
from funrec.metrics.ranking import NDCGAtK, RecallAtK


def rows_of(labels, users=None):
    return Rows(users, {"click": labels})


def statistic_of(metric, labels, users=None):
    return metric.statistic(rows_of(labels, users).sample(labels))


def draw(rows=60, users=None, digits=1, seed=0):
    """Labels, two related scores with ties, and users."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.4).astype(np.float32)
    first = (labels + random.normal(size=rows)).round(digits).astype(np.float32)
    second = (0.5 * first + 0.5 * random.normal(size=rows)).round(digits).astype(np.float32)
    return labels, first, second, None if users is None else random.integers(0, users, rows)


def pairwise(labels, scores):
    """The kernel of the AUC: 1, 1/2 or 0 for every positive and negative row."""
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def delong(labels, *all_scores):
    """The covariance of AUCs by DeLong et al. (1988), eq. 5-7, from all pairs, with divisors P and N (not P - 1)."""
    kernels = [pairwise(labels, scores) for scores in all_scores]
    of_positives = np.cov([kernel.mean(axis=1) for kernel in kernels], ddof=0)
    of_negatives = np.cov([kernel.mean(axis=0) for kernel in kernels], ddof=0)
    return of_positives / kernels[0].shape[0] + of_negatives / kernels[0].shape[1]


def test_with_one_row_per_user_variance_and_covariance_are_delongs():
    labels, first, second, _ = draw()
    statistic = statistic_of(AUC(), labels)
    vectors = np.stack([statistic.measure(scores)[1] for scores in (first, second)])
    assert statistic.count == labels.size
    np.testing.assert_allclose(vectors @ vectors.T, delong(labels, first, second) * 60 / 59, rtol=1e-10)


def test_the_clustered_variance_is_the_sum_of_obuchowskis_three_terms():
    labels, scores, _, users = draw(rows=90, users=25)
    statistic = statistic_of(AUC(), labels, users)
    value, influence = statistic.measure(scores)
    kernel = pairwise(labels, scores)
    assert value == pytest.approx(kernel.mean()) == auc(labels, scores)
    of_positives, of_negatives = kernel.mean(axis=1), kernel.mean(axis=0)
    within_positives = within_negatives = between = 0.0
    for user in np.unique(users):
        a = np.sum(of_positives[users[labels == 1] == user] - value)
        b = np.sum(of_negatives[users[labels == 0] == user] - value)
        within_positives, within_negatives, between = (
            within_positives + a * a,
            within_negatives + b * b,
            between + a * b,
        )
    positives, negatives = kernel.shape
    expected = within_positives / positives**2 + within_negatives / negatives**2 + 2 * between / positives / negatives
    count = np.unique(users).size
    assert influence @ influence == pytest.approx(expected * count / (count - 1), rel=1e-10)


def test_repeating_every_row_inside_its_user_narrows_nothing():
    labels, scores, _, users = draw(rows=200, users=30)
    once = statistic_of(AUC(), labels, users).measure(scores)
    repeated = [np.repeat(array, 5) for array in (labels, scores, users)]
    five = statistic_of(AUC(), repeated[0], repeated[2]).measure(repeated[1])
    assert five[0] == pytest.approx(once[0])
    np.testing.assert_allclose(five[1], once[1], atol=1e-15)
    alone = statistic_of(AUC(), repeated[0]).measure(repeated[1])[1]
    assert alone @ alone < 0.5 * once[1] @ once[1]  # what an interval over rows would have made of it


METRICS = [AUC(), GAUC(), LogLoss(), RMSE(), MAE(), NDCGAtK(3), RecallAtK(2, users="any_positive")]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_an_influence_value_is_what_leaving_its_user_out_would_change(metric):
    def value_of(users, labels, scores):
        return metric.value(TaskRows(labels, scores, users))

    rows = planted(users=150, seed=3)
    labels, scores, users = rows["labels"][:, 0], rows["signal"][:, 0].astype(np.float32), rows["group"]
    statistic = statistic_of(metric, labels, users)
    value, influence = statistic.measure(scores)
    assert value == pytest.approx(value_of(users, labels, scores), abs=1e-12)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    left_out = np.array([value_of(*(array[users != user] for array in (users, labels, scores))) for user in range(150)])
    jackknife = value - left_out
    assert np.corrcoef(jackknife, influence)[0, 1] > 0.999
    # Of 150 users each has a share of 1/150, and the jackknife differs by terms of that order.
    assert np.linalg.norm(jackknife) == pytest.approx(np.linalg.norm(influence), rel=3 / 150)


@pytest.mark.parametrize("weight", ["impressions", "none", "positives"])
def test_the_gauc_has_the_weight_that_the_runs_had(weight):
    rows = planted(seed=4)
    labels, scores, users = rows["labels"][:, 0], rows["signal"][:, 0].astype(np.float32), rows["group"]
    statistic = statistic_of(GAUC(weight), labels, users)
    expected = group_auc(users, labels, scores, weight)
    assert statistic.measure(scores)[0] == pytest.approx(expected.value, abs=1e-14)
    assert statistic.count == expected.groups


def test_users_with_one_label_have_no_influence_on_a_gauc():
    labels = np.array([1, 0, 1, 1, 0, 1, 0], np.float32)
    users = np.array([0, 0, 1, 1, 2, 2, 2])
    _, influence = statistic_of(GAUC(), labels, users).measure(np.arange(7, dtype=np.float32))
    assert influence[1] == 0
    assert influence[0] != 0


@pytest.mark.parametrize("metric", [*METRICS, PRAUC()], ids=lambda metric: metric.name)
def test_masked_rows_count_nowhere(metric):
    labels, scores, _, users = draw(rows=120, users=20)
    masked = labels.copy()
    masked[::3] = np.nan
    kept = ~np.isnan(masked)
    with_mask = statistic_of(metric, masked, users).measure(np.where(kept, scores, np.nan).astype(np.float32))
    without = statistic_of(metric, labels[kept], users[kept]).measure(scores[kept])
    assert with_mask[0] == pytest.approx(without[0])
    np.testing.assert_allclose(with_mask[1], without[1], atol=1e-15)


def test_a_score_that_is_nan_is_an_error():
    labels, scores, _, users = draw(users=10)
    for metric in [*METRICS, PRAUC()]:
        statistic = statistic_of(metric, labels, users)
        with pytest.raises(ValueError, match="NaN"):
            statistic.measure(np.full_like(scores, np.nan))


def test_a_conditional_auc_is_that_of_the_rows_where_the_parent_is_1():
    rows = planted(seed=5)
    click, like = rows["labels"].T
    scores = rows["signal"][:, 1].astype(np.float32)
    split = Rows(rows["group"], {"click": click, "like": like})
    name = "auc_like_given_click"
    built = build_statistics(split, standard_metrics(), {name})
    assert list(built) == [name]
    assert built[name].heads == ("like_given_click", "like")
    assert built[name].statistic.measure(scores)[0] == auc(like[click == 1], scores[click == 1])


def test_a_metric_of_one_class_has_no_statistic():
    labels = np.ones(5, np.float32)
    assert build_statistics(rows_of(labels), standard_metrics(), {"auc_click"}) == {}


def test_a_metric_without_a_direction_has_no_statistic():
    rows = planted()
    split = Rows(rows["group"], {"click": rows["labels"][:, 0]})
    names = {"val_user_click", "ratio_click", "ece_click"}
    assert list(build_statistics(split, standard_metrics(), names)) == ["ece_click"]
