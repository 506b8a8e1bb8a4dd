"""AUC within groups, against a loop of scikit-learn over groups."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from funrec import metrics
from funrec.metrics.gauc import GAUC_WEIGHTS, group_auc, per_group_auc
from funrec.metrics.sorting import UndefinedMetric, sort_runs
from funrec.utils.errors import InputError


def loop_over_groups(groups, labels, scores, weight):
    values, weights = [], []
    for group in np.unique(groups):
        rows = groups == group
        if 0 < labels[rows].sum() < rows.sum():
            values.append(roc_auc_score(labels[rows], scores[rows]))
            weights.append({"impressions": rows.sum(), "positives": labels[rows].sum(), "none": 1}[weight])
    return np.average(values, weights=weights), len(values)


def draw(rows=3000, users=400, digits=None, dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    groups = (users * random.random(rows) ** 2).astype(np.int64)
    scores = random.standard_normal(rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    return groups, labels, (scores if digits is None else scores.round(digits)).astype(dtype)


@pytest.mark.parametrize("weight", GAUC_WEIGHTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", [None, 1, 0])
def test_gauc_equals_a_loop_over_groups(weight, dtype, digits):
    groups, labels, scores = draw(digits=digits, dtype=dtype)
    value, count = loop_over_groups(groups, labels, scores, weight)
    result = group_auc(groups, labels, scores, weight=weight)
    assert result.value == pytest.approx(value, abs=1e-12)
    assert result.groups == count


def test_weights_are_the_hand_computed_ones():
    groups = [7, 7, 7, 7, 3, 3, 5]
    labels = [1, 1, 1, 0, 1, 0, 1]
    scores = [0.9, 0.8, 0.1, 0.5, 0.2, 0.6, 0.4]
    # User 7 orders 2 of 3 pairs, user 3 none, user 5 has no negative.
    assert group_auc(groups, labels, scores).value == pytest.approx((4 * 2 / 3) / 6)
    assert group_auc(groups, labels, scores, weight="none").value == pytest.approx(1 / 3)
    assert group_auc(groups, labels, scores, weight="positives").value == pytest.approx((3 * 2 / 3) / 4)


def test_gauc_skips_users_with_one_class():
    groups, labels, scores = draw(300, 20)
    result = group_auc(groups, labels, scores)
    more = group_auc(
        np.append(groups, [100, 100, 101]), np.append(labels, [1, 1, 0]), np.append(scores, np.float32([5, -5, 9]))
    )
    assert (more.value, more.groups) == (result.value, result.groups)


def test_public_name_is_the_function_with_its_fields():
    result = metrics.group_auc([1, 1], [0, 1], [0.1, 0.2])
    assert (result.value, result.groups) == (1.0, 1)


def test_one_group_gives_the_auc():
    _, labels, scores = draw()
    assert group_auc(np.zeros(len(labels)), labels, scores).value == metrics.auc(labels, scores)


def test_equal_scores_of_neighbouring_groups_are_no_ties():
    # In order of keys user 1 ends with a negative at 0.5 and user 2 begins with a positive at 0.5.
    groups, labels, scores = [1, 1, 2, 2], [1, 0, 1, 0], [0.1, 0.5, 0.5, 0.9]
    assert per_group_auc(sort_runs(labels, scores, groups)).auc.tolist() == [0.0, 0.0]


GROUP_VALUES = {
    "strings": lambda codes: np.array([f"user {code * 7919 % 1000}" for code in codes]),
    "objects": lambda codes: np.array([f"user {code * 7919 % 1000}" for code in codes], object),
    "far apart": lambda codes: codes * 2_305_843_009_213_693 - 2**62,
    "negative": lambda codes: codes.astype(np.int32) - 200,
    "small": lambda codes: (codes - 120).astype(np.int8),
    "unsigned": lambda codes: codes.astype(np.uint64) + np.uint64(2**64 - 10_000),
    "at the top": lambda codes: codes + (2**63 - 1 - 10_000),
    "floats": lambda codes: codes / 7 - 3,
    "booleans": lambda codes: codes % 2 == 0,
}


@pytest.mark.parametrize("kind", GROUP_VALUES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_groups_of_any_type_count_alike(kind, dtype):
    codes, labels, scores = draw(2000, 240, dtype=dtype)
    groups = GROUP_VALUES[kind](codes)
    value, count = loop_over_groups(groups, labels, scores, "impressions")
    result = group_auc(groups, labels, scores)
    assert result.value == pytest.approx(value, abs=1e-12)
    assert result.groups == count
    per_group = per_group_auc(sort_runs(labels, scores, groups))
    assert per_group.groups.dtype == groups.dtype
    assert np.isin(per_group.groups, groups).all()


@pytest.mark.parametrize("kind", ["strings", "negative", "small", "unsigned", "at the top"])
def test_per_group_arrays_belong_to_their_group(kind):
    codes, labels, scores = draw(1000, 50, digits=1)
    groups = GROUP_VALUES[kind](codes)
    result = per_group_auc(sort_runs(labels, scores, groups))
    assert (result.groups[1:] > result.groups[:-1]).all()
    for index, group in enumerate(result.groups):
        rows = groups == group
        assert result.impressions[index] == rows.sum()
        assert result.positives[index] == labels[rows].sum()
        assert result.auc[index] == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_of_rows_changes_no_digit(dtype):
    groups, labels, scores = draw(digits=2, dtype=dtype)
    order = np.random.default_rng(1).permutation(len(labels))
    for weight in GAUC_WEIGHTS:
        assert group_auc(groups[order], labels[order], scores[order], weight) == group_auc(
            groups, labels, scores, weight
        )


def test_adding_a_constant_per_user_changes_nothing_but_adding_it_to_auc_does():
    groups, labels, scores = draw(dtype=np.float64)
    moved = scores.round(3) + 10.0 * groups
    assert group_auc(groups, labels, moved.round(3)).value == group_auc(groups, labels, scores.round(3)).value
    assert metrics.auc(labels, moved) != metrics.auc(labels, scores)


def test_gauc_without_a_group_of_both_labels_is_undefined():
    for groups, labels in (([1, 2, 2], [1, 0, 0]), ([], [])):
        with pytest.raises(UndefinedMetric, match="no group has both labels"):
            group_auc(groups, labels, np.zeros(len(labels)))
        assert per_group_auc(sort_runs(labels, np.zeros(len(labels)), groups)).auc.size == 0


@pytest.mark.parametrize(
    ("groups", "message"),
    [([1], "one value per label"), ([1.0, np.nan], "NaN"), (np.array(["a", None], object), "one type that sorts")],
)
def test_groups_that_are_no_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        group_auc(groups, [0, 1], [0.1, 0.2])


def test_an_unknown_weight_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match=r"Received: impression\. Did you mean impressions\?"):
        group_auc([1, 1], [0, 1], [0.1, 0.2], weight="impression")
