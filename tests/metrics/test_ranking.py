"""Ranking metrics of the top of a list, against a loop over users and against all orderings of ties."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from funrec.metrics import TaskRows, UndefinedMetric, build_metrics
from funrec.metrics.ranking import NDCGAtK, RecallAtK
from funrec.utils.errors import InputError


def rows_of(groups, labels, scores):
    return TaskRows(np.asarray(labels, np.float32), np.asarray(scores, np.float32), np.asarray(groups))


def draw(digits, groups=150, rows=2000):
    """Rows of users with one row up to many, whose scores have ties."""
    random = np.random.default_rng(0)
    codes = np.concatenate([random.integers(0, groups, rows), np.arange(groups), np.arange(groups, groups + 20)])
    scores = random.standard_normal(codes.size).round(digits)
    return rows_of(codes, random.random(codes.size) < 0.3, scores)


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
@pytest.mark.parametrize("digits", [6, 1, 0])
def test_ndcg_equals_a_loop_over_users_with_both_labels(k, digits):
    rows = draw(digits)
    users = [rows.groups == group for group in np.unique(rows.groups)]
    both = [user for user in users if 0 < rows.labels[user].mean() < 1]
    expected = [ndcg_score(rows.labels[user][None], rows.scores[user][None], k=k) for user in both]
    assert NDCGAtK(k).value(rows) == pytest.approx(np.mean(expected), abs=1e-12)
    assert NDCGAtK(k).entries(rows).values.size == len(expected)


def test_ndcg_over_users_with_any_positive_counts_a_perfect_list_where_every_row_is_positive():
    rows = draw(1)
    users = [rows.groups == group for group in np.unique(rows.groups)]
    # scikit-learn refuses a list of one row, whose order is always the best.
    scores = [
        ndcg_score(rows.labels[user][None], rows.scores[user][None], k=5) if user.sum() > 1 else 1.0
        for user in users
        if rows.labels[user].any()
    ]
    metric = NDCGAtK(5, users="any_positive")
    assert metric.value(rows) == pytest.approx(np.mean(scores), abs=1e-12)
    assert metric.name == "ndcg_at_5_any_positive"
    assert len(scores) > NDCGAtK(5).entries(rows).values.size


@pytest.mark.parametrize("metric", [NDCGAtK, RecallAtK])
@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_ties_count_as_the_mean_over_all_their_orderings(metric, k):
    labels, scores = np.array([1, 0, 0, 1, 1, 0]), np.array([2, 2, 1, 1, 1, 0])
    discounts = 1 / np.log2(np.arange(2, 8))
    values = []
    for order in permutations(range(6)):
        if (np.diff(scores[list(order)]) > 0).any():
            continue
        top = labels[list(order)][:k]
        best = discounts[: min(k, 3)].sum()
        values.append(top.sum() / 3 if metric is RecallAtK else (top * discounts[: top.size]).sum() / best)
    assert len(values) == 2 * 6
    assert metric(k).value(rows_of(np.zeros(6), labels, scores)) == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("k", [1, 4, 1000])
def test_recall_equals_a_loop_over_users_with_both_labels(k):
    rows = draw(6)
    expected = []
    for group in np.unique(rows.groups):
        labels = rows.labels[rows.groups == group]
        if 0 < labels.mean() < 1:
            top = labels[np.argsort(-rows.scores[rows.groups == group])][:k]
            expected.append(top.sum() / labels.sum())
    assert RecallAtK(k).value(rows) == pytest.approx(np.mean(expected), abs=1e-12)


def test_ranking_metrics_are_the_hand_computed_values():
    # User a: the one positive is second of three. User b has no positive, user c no negative: neither counts.
    rows = rows_of(["a", "a", "a", "b", "c"], [0, 1, 0, 0, 1], [3, 2, 1, 1, 1])
    assert NDCGAtK(2).value(rows) == pytest.approx(1 / np.log2(3))
    assert NDCGAtK(1).value(rows) == RecallAtK(1).value(rows) == 0.0
    assert RecallAtK(2).value(rows) == 1.0


@pytest.mark.parametrize(
    ("labels", "users", "reason"),
    [
        ([0, 0], "any_positive", "no label is 1"),
        ([1, 1], "both_labels", "no group has both labels"),
        ([], "both_labels", "no group has both labels"),
    ],
)
def test_without_a_user_who_counts_there_is_no_value(labels, users, reason):
    rows = rows_of(np.zeros(len(labels)), labels, np.arange(len(labels)))
    for metric in (NDCGAtK(5, users), RecallAtK(5, users)):
        with pytest.raises(UndefinedMetric, match=reason):
            metric.value(rows)


def test_ndcg_over_all_users_counts_a_user_without_positives_as_zero():
    rows = draw(6)
    gains = []
    for group in np.unique(rows.groups):
        labels = rows.labels[rows.groups == group][np.argsort(-rows.scores[rows.groups == group])]
        discounts = 1 / np.log2(np.arange(2, min(5, labels.size) + 2))
        best = discounts[: int(labels.sum())].sum()
        gains.append((labels[:5] * discounts).sum() / best if best else 0.0)
    metric = NDCGAtK(5, users="all")
    assert metric.value(rows) == pytest.approx(np.mean(gains), abs=1e-12)
    assert 0.0 in gains
    assert metric.name == "ndcg_at_5_all"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"metrics.extra.ndcg_at_k.k should be a positive whole number. Received: 0."),
        ({"k": True}, "Received: True."),
        (
            {"users": "any_positives"},
            r"should be one of both_labels, any_positive, all. .* Did you mean any_positive\?",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_metrics({"extra": {"ndcg_at_k": {"_target_": "funrec.metrics.ranking.NDCGAtK", **arguments}}})
