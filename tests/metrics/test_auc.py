"""Metrics of one list of rows, against scikit-learn and a count of all pairs."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from funrec import metrics
from funrec.metrics.auc import PRAUC, ClusteredAUC, auc
from funrec.metrics.base import Sample, TaskRows
from funrec.metrics.sorting import UndefinedMetric


def count_pairs(labels, scores):
    """AUC by its definition: every positive against every negative."""
    labels = np.asarray(labels) == 1
    positive, negative = np.asarray(scores)[labels][:, None], np.asarray(scores)[~labels][None, :]
    return float(np.mean((positive > negative) + 0.5 * (positive == negative)))


def pr_auc(labels, scores):
    return PRAUC().value(TaskRows(np.asarray(labels), np.asarray(scores)))


def draw(rows=2000, distinct=None, dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    scores = random.standard_normal(rows)
    if distinct:
        scores = np.floor(scores * distinct / 4) * 4 / distinct
    labels = random.random(rows) < 1 / (1 + np.exp(-scores))
    return labels.astype(np.float32), scores.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("distinct", [None, 3, 40])
def test_auc_and_pr_auc_equal_scikit_learn(dtype, distinct):
    labels, scores = draw(distinct=distinct, dtype=dtype)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores.astype(np.float64)), abs=1e-12)
    reference = average_precision_score(labels, scores.astype(np.float64))
    assert pr_auc(labels, scores) == pytest.approx(reference, abs=1e-12)


def test_auc_is_the_hand_computed_value():
    # Pairs: (.8,.1) won, (.8,.4) won, (.4,.1) won, (.4,.4) tied.
    assert auc([1, 0, 1, 0], [0.8, 0.1, 0.4, 0.4]) == 3.5 / 4


def test_public_name_is_the_function():
    assert metrics.auc([0, 1], [0.1, 0.2]) == 1.0


def test_equal_scores_give_one_half():
    assert auc([1, 0, 0, 1, 0], np.zeros(5)) == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_of_rows_changes_no_digit(dtype):
    labels, scores = draw(distinct=50, dtype=dtype)
    order = np.random.default_rng(1).permutation(len(labels))
    for metric in (auc, pr_auc):
        assert metric(labels[order], scores[order]) == metric(labels, scores)


def test_scores_that_differ_below_float32_are_not_ties():
    scores = 1 + np.arange(4) * 1e-12
    assert np.unique(scores.astype(np.float32)).size == 1
    assert auc([0, 0, 1, 1], scores) == 1.0
    assert auc([1, 1, 0, 0], scores) == 0.0


def test_whole_numbers_beyond_float_precision_are_not_ties():
    scores = np.array([2**60, 2**60 + 1, 2**60 + 2])
    assert auc([0, 1, 1], scores) == 1.0
    assert auc([0, 1, 1], np.array([2**24, 2**24 + 1, 2**24 + 2], np.int32)) == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_negative_zero_ties_with_zero(dtype):
    tied = np.array([-0.0, 0.0], dtype)
    assert auc([0, 1], tied) == auc([1, 0], tied) == 0.5
    # A third score that no float32 holds sends float64 scores down the other path.
    assert auc([0, 1, 1], np.append(tied, dtype(1e-60))) == pytest.approx(0.5 if dtype is np.float32 else 0.75)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_tiny_negative_and_infinite_scores_keep_their_order(dtype):
    limits = np.finfo(dtype)
    scores = np.array(
        [-np.inf, limits.min, -1, -limits.tiny, 0, limits.smallest_subnormal, limits.tiny, 1, limits.max, np.inf], dtype
    )
    random = np.random.default_rng(0)
    for _ in range(20):
        chosen = random.permutation(np.concatenate([scores, random.choice(scores, 10)]))
        labels = random.permutation(np.arange(chosen.size) % 3 == 0)
        assert auc(labels, chosen) == count_pairs(labels, chosen)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint8, np.float32, np.float64, object])
def test_labels_of_any_type_count_alike(dtype):
    labels, scores = draw(300)
    assert auc(labels.astype(dtype), scores) == auc(labels, scores)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.uint64])
def test_scores_of_any_number_type_count_alike(dtype):
    labels, scores = draw(300)
    scores = np.clip(np.round(scores * 3) + 9, 0, 100).astype(dtype)
    assert auc(labels, scores) == pytest.approx(count_pairs(labels, scores), abs=1e-15)


def test_strided_and_read_only_rows_are_read_and_left_as_they_are():
    labels, scores = draw(600)
    matrix = np.stack([labels, scores], axis=1)
    matrix.flags.writeable = False
    assert auc(matrix[:, 0], matrix[:, 1]) == auc(labels, scores)


@pytest.mark.parametrize("metric", [auc, pr_auc])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1], "of one length"),
        ([[0, 1]], [[0.1, 0.2]], "of one length"),
        ([0, 1], [0.1, np.nan], "1 NaN"),
        ([0, 2], [0.1, 0.2], r"0 or 1. Received: 2"),
        ([0, np.nan], [0.1, 0.2], "0 or 1. Received: nan"),
        ([0, 1], ["a", "b"], "numbers"),
    ],
)
def test_rows_that_are_no_rows_are_refused_with_what_came(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message) as error:
        metric(labels, scores)
    assert not isinstance(error.value, UndefinedMetric)


@pytest.mark.parametrize(
    ("labels", "reason"), [([0, 0], "every label is 0"), ([1, 1], "every label is 1"), ([], "there is no row")]
)
def test_auc_of_one_class_is_undefined_with_its_reason(labels, reason):
    with pytest.raises(UndefinedMetric, match=f"AUC is undefined: {reason}.") as error:
        auc(labels, np.zeros(len(labels)))
    assert error.value.reason == reason


def test_pr_auc_needs_positives_alone():
    assert pr_auc([1, 1], [0.3, 0.2]) == 1.0
    with pytest.raises(UndefinedMetric, match="every label is 0"):
        pr_auc([0, 0], [0.3, 0.2])


def clustered(positive: np.ndarray, users: np.ndarray, units: int) -> ClusteredAUC:
    return ClusteredAUC(Sample(positive, users, units, has_groups=True))


def draw_users(rows: int = 400, users: int = 40, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    positive = random.random(rows) < 0.3
    scores = (positive + random.normal(size=rows)).round(digits).astype(np.float32)
    return positive, scores, random.integers(0, users, rows)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_influence_is_every_users_part_in_all_pairs(digits: int) -> None:
    positive, scores, users = draw_users(digits=digits)
    high, low = scores[positive][:, None], scores[~positive][None, :]
    kernel = (high > low) + 0.5 * (high == low)
    value, influence = clustered(positive, users, 41).influence(scores)
    assert value == pytest.approx(kernel.mean(), abs=1e-12)
    for user in range(41):
        of_positives = kernel[users[positive] == user] - value
        of_negatives = kernel[:, users[~positive] == user] - value
        assert influence[user] == pytest.approx((of_positives.sum() + of_negatives.sum()) / kernel.size, abs=1e-12)


def test_users_are_the_sampling_unit() -> None:
    """Rows that come in threes say no more than the rows once: the same error, not one smaller by the root of 3."""
    positive, scores, users = draw_users()
    value, influence = clustered(positive, users, 40).influence(scores)
    thrice, its = clustered(np.repeat(positive, 3), np.repeat(users, 3), 40).influence(np.repeat(scores, 3))
    assert value == pytest.approx(thrice, abs=1e-12)
    assert value == pytest.approx(auc(positive, scores), abs=1e-12)
    assert np.linalg.norm(influence) == pytest.approx(np.linalg.norm(its), rel=1e-9)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_users_among_the_rows_are_counted_and_one_label_alone_has_no_auc() -> None:
    statistic = clustered(np.array([True, True]), np.array([3, 3]), 9)
    assert statistic.count == 1
    assert statistic.undefined == "every label is 1"
    with pytest.raises(ValueError, match="AUC is undefined: every label is 1"):
        statistic.measure(np.array([0.5, 0.7]))


def test_a_score_that_is_no_number_is_refused() -> None:
    positive, scores, users = draw_users()
    scores[7] = np.nan
    with pytest.raises(ValueError, match="should not be NaN"):
        clustered(positive, users, 40).influence(scores)


def test_importing_metrics_loads_no_heavy_library():
    heavy = ("sklearn", "pandas", "scipy", "tensorflow", "polars")
    code = f"import sys, funrec.metrics; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
