"""Ranking metrics of the top of a list, against a loop of scikit-learn over groups."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from funrec.metrics.ranking import ndcg_at_k
from funrec.metrics.sorting import UndefinedMetric


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
@pytest.mark.parametrize("digits", [6, 1, 0])
def test_ndcg_equals_a_loop_over_groups(k, digits):
    random = np.random.default_rng(0)
    groups = np.concatenate([random.integers(0, 150, 2000), np.arange(150), np.arange(150)])
    scores = random.standard_normal(groups.size).round(digits)
    labels = (random.random(groups.size) < 0.3).astype(np.float32)
    rows_by_group = [rows for group in range(150) if labels[rows := groups == group].any()]
    expected = [ndcg_score(labels[rows][None], scores[rows][None], k=k) for rows in rows_by_group]
    result = ndcg_at_k(groups, labels, scores, k)
    assert result.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert result.groups == len(expected)


def test_ndcg_is_the_hand_computed_value():
    # User a: the one positive is second of three. User b has no positive and does not count.
    assert ndcg_at_k(["a", "a", "a", "b"], [0, 1, 0, 0], [3, 2, 1, 1], k=2).value == pytest.approx(1 / np.log2(3))
    assert ndcg_at_k(["a", "a", "a", "b"], [0, 1, 0, 0], [3, 2, 1, 1], k=1).value == 0.0


def test_ndcg_without_positives_is_undefined():
    with pytest.raises(UndefinedMetric, match="NDCG@5 is undefined: no label is 1"):
        ndcg_at_k([1, 1], [0, 0], [1, 2], k=5)


def test_k_should_be_positive():
    with pytest.raises(ValueError, match=r"k should be positive. Received: 0"):
        ndcg_at_k([1, 1], [0, 1], [1, 2], k=0)
