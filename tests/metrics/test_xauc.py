"""XAUC against all pairs."""

import numpy as np
import pytest

from funrec.metrics import TaskRows, UndefinedMetric
from funrec.metrics.xauc import XAUC, GroupXAUC, order_pairs


def all_pairs(labels, scores):
    """Every pair, one at a time."""
    concordant, pairs = 0.0, 0
    for one in range(len(labels)):
        for other in range(one):
            if labels[one] != labels[other]:
                agreement = (labels[one] - labels[other]) * (scores[one] - scores[other])
                concordant += 0.5 if agreement == 0 else agreement > 0
                pairs += 1
    return concordant, pairs


def draw(digits, rows=300):
    random = np.random.default_rng(digits)
    labels = random.normal(size=rows).round(digits)
    return labels, (labels + random.normal(size=rows)).round(digits), random.integers(0, 12, rows) * 7


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_xauc_equals_a_count_of_all_pairs(digits):
    labels, scores, _ = draw(digits)
    concordant, pairs = all_pairs(labels, scores)
    assert XAUC().value(TaskRows(labels, scores)) == pytest.approx(concordant / pairs, abs=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_grouped_xauc_is_the_mean_within_users_weighted_by_their_rows(digits):
    labels, scores, users = draw(digits)
    labels[users == 7] = 1.0  # a user whose labels are all the same does not count
    counts = {user: all_pairs(labels[users == user], scores[users == user]) for user in np.unique(users)}
    counted = {user: concordant / pairs for user, (concordant, pairs) in counts.items() if pairs}
    assert len(counted) == 11
    expected = np.average(list(counted.values()), weights=[np.sum(users == user) for user in counted])
    assert GroupXAUC().value(TaskRows(labels, scores, users)) == pytest.approx(expected, abs=1e-12)
    found = order_pairs(labels, scores, users)
    assert list(zip(found.concordant, found.pairs, strict=True)) == list(counts.values())


def test_xauc_of_right_and_of_reversed_order():
    values = np.arange(9.0)
    assert XAUC().value(TaskRows(values, 3 * values)) == 1
    assert XAUC().value(TaskRows(values, -values)) == 0
    assert XAUC().value(TaskRows(values, np.zeros(9))) == 0.5


def test_without_two_different_labels_there_is_no_value():
    for metric, reason in ((XAUC(), "all labels are the same"), (GroupXAUC(), "no group has two different labels")):
        with pytest.raises(UndefinedMetric, match=reason):
            metric.value(TaskRows(np.ones(3), np.arange(3.0), np.zeros(3, int)))
    with pytest.raises(UndefinedMetric, match="there is no row"):
        XAUC().value(TaskRows(np.zeros(0), np.zeros(0)))
