"""Intervals and marks: against textbook formulas, and calibrated on planted users and seeds."""

import numpy as np
import pytest
from scipy import stats

from funrec.comparison.significance import BETTER, CANNOT_TELL, WORSE, Accumulator, estimate, holm, mark

ONE = np.ones(1)


def variant(table):
    """Measure a metric that is a plain mean over users; `table` is `(seeds, users)`."""
    users = table.shape[1]
    sums = Accumulator(np.array([users]))
    for row in table:
        vector = (row - row.mean()) / users * np.sqrt(users / (users - 1))
        sums.add(np.array([row.mean()]), vector[None].copy())
    return sums.result()


def test_one_seed_a_side_is_the_paired_t_test_over_users():
    random = np.random.default_rng(0)
    ours, base = random.normal(size=(2, 1, 40)) + 0.3 * random.normal(size=40)
    found = estimate(variant(ours), ONE, variant(base))
    expected = stats.ttest_rel(ours[0], base[0])
    interval = expected.confidence_interval()
    assert not found.about_variants
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_where_users_agree_seeds_are_welchs_t_test():
    random = np.random.default_rng(1)
    ours, base = random.normal(size=(5, 1)), 0.5 + 3 * random.normal(size=(3, 1))
    found = estimate(variant(np.repeat(ours, 20, axis=1)), ONE, variant(np.repeat(base, 20, axis=1)))
    expected = stats.ttest_ind(ours[:, 0], base[:, 0], equal_var=False)
    assert found.about_variants
    assert found.degrees == pytest.approx(expected.df)
    assert found.p_value == pytest.approx(expected.pvalue)


def test_what_all_seeds_share_of_the_users_noise_is_added_once_and_the_rest_is_in_the_seeds():
    random = np.random.default_rng(2)
    users, seeds = 30, 4
    ours, base = random.normal(size=(2, seeds, users)) + random.normal(size=(2, 1, users))
    found = estimate(variant(ours), ONE, variant(base))
    # Obuchowski and Rockette by covariances: what two seeds of a side share, less what the two sides share.
    table = np.concatenate([ours, base])
    covariance = np.cov(table) / users
    off_diagonal = ~np.eye(seeds, dtype=bool)
    within = sum(covariance[side, side][off_diagonal].mean() for side in (slice(seeds), slice(seeds, None)))
    shared = within - 2 * covariance[:seeds, seeds:].mean()
    of_seeds = sum(side.mean(axis=1).var(ddof=1) / seeds for side in (ours, base))
    assert shared > 0
    assert found.standard_error**2 == pytest.approx(shared + of_seeds)


@pytest.mark.parametrize("seeds", [(1, 5), (2, 2), (3, 2)])
def test_fewer_than_three_seeds_on_a_side_speak_of_trained_models(seeds):
    random = np.random.default_rng(3)
    ours, base = (variant(random.normal(size=(count, 20)) + 5 * random.normal(size=(count, 1))) for count in seeds)
    found = estimate(ours, ONE, base)
    assert not found.about_variants
    difference = ours.deviations[0] - base.deviations[0]
    assert found.standard_error == pytest.approx(np.linalg.norm(difference))


@pytest.mark.parametrize("seed_noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("own_noise", [0.2, 1.0])
def test_equal_variants_are_called_different_one_time_in_twenty(seed_noise, own_noise):
    """Users with an effect on all models, on a variant's and on a seed's; seeds with an effect from none to large."""
    random = np.random.default_rng(4)
    users, seeds, comparisons = 40, 4, 1500
    claims = np.zeros(comparisons, bool)
    for place in range(comparisons):
        common = random.normal(size=users)
        sides = [
            common
            + 0.3 * random.normal(size=users)
            + own_noise * random.normal(size=(seeds, users))
            + seed_noise * random.normal(size=(seeds, 1))
            for _ in range(2)
        ]
        claims[place] = estimate(variant(sides[0]), ONE, variant(sides[1])).p_value <= 0.05
    # Four binomial standard errors of 5% in 1500. Users alone would claim far more, as the next test shows.
    assert abs(claims.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / comparisons)


def test_users_alone_would_call_most_pairs_of_seeds_different():
    random = np.random.default_rng(5)
    tables = [random.normal(size=(1, 400)) + 0.3 * random.normal() for _ in range(40)]
    measured = [variant(table) for table in tables]
    claims = [estimate(one, ONE, other).p_value <= 0.05 for one in measured for other in measured if one is not other]
    assert np.mean(claims) > 0.5


def test_two_models_that_rank_alike_have_no_difference_and_no_claim():
    table = np.random.default_rng(6).normal(size=(1, 30))
    found = estimate(variant(table), ONE, variant(table))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert mark(found.value, found.p_value, True) == CANNOT_TELL


def test_one_user_gives_no_interval_and_no_mark():
    sums = Accumulator(np.array([1]))
    sums.add(np.array([0.7]), np.zeros((1, 1)))
    found = estimate(sums.result(), ONE)
    assert np.isnan(found.low)
    assert mark(0.2, found.p_value, True) == CANNOT_TELL


def test_a_weighted_sum_of_metrics_has_the_weighted_sum_of_their_influence_values():
    random = np.random.default_rng(7)
    tables = random.normal(size=(3, 2, 25))  # seeds, metrics, users
    sums = Accumulator(np.array([25, 25]))
    for table in tables:
        sums.add(table.mean(axis=1), (table - table.mean(axis=1, keepdims=True)) / np.sqrt(25 * 24))
    macro = estimate(sums.result(), np.array([0.5, 0.5]))
    alone = estimate(variant(tables.mean(axis=1)), ONE)
    assert (macro.value, macro.low, macro.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_holms_adjustment_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_is_no_test_costs_the_others_nothing():
    adjusted = holm([0.02, float("nan"), 0.04])
    assert adjusted[0] == pytest.approx(0.04)
    assert np.isnan(adjusted[1])


@pytest.mark.parametrize(
    ("difference", "adjusted_p", "higher_is_better", "expected"),
    [
        (0.1, 0.05, True, BETTER),
        (-0.1, 0.01, True, WORSE),
        (-0.1, 0.01, False, BETTER),
        (0.1, 0.01, False, WORSE),
        (0.1, 0.051, True, CANNOT_TELL),
        (0.1, float("nan"), True, CANNOT_TELL),
    ],
)
def test_a_mark_needs_both_a_direction_and_a_small_p(difference, adjusted_p, higher_is_better, expected):
    assert mark(difference, adjusted_p, higher_is_better) == expected
