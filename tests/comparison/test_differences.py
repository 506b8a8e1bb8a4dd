"""The mean relative gain over tasks, and families of tests."""

import numpy as np
import pytest

from funrec.comparison.differences import DELTA_M, Difference, Family, delta_m, is_higher_better
from funrec.comparison.significance import Accumulator, Estimate
from funrec.comparison.variants import Variant


def measured(table):
    """A run whose metrics are plain means over users; `table` is `(metrics, users)`."""
    users = table.shape[1]
    sums = Accumulator(np.full(len(table), users))
    sums.add(table.mean(axis=1), (table - table.mean(axis=1, keepdims=True)) / np.sqrt(users * (users - 1)))
    return sums.result()


def test_delta_m_is_the_mean_relative_gain_with_the_error_of_a_ratio():
    random = np.random.default_rng(0)
    base = np.array([[1.0], [4.0]]) + 0.2 * random.normal(size=(2, 300))
    ours = np.array([[2.0], [1.0]]) * base + 0.2 * random.normal(size=(2, 300))
    parts = [(np.array([1.0, 0.0]), True), (np.array([0.0, 1.0]), False)]
    found = delta_m(measured(ours), measured(base), parts)
    ratios = ours.mean(axis=1) / base.mean(axis=1)
    assert found.value == pytest.approx(0.5 * (ratios[0] - 1) - 0.5 * (ratios[1] - 1))
    # Linearised by hand: a ratio of means m / b moves with (m_u - m / b * b_u) / b.
    moves = (ours - ratios[:, None] * base) / base.mean(axis=1, keepdims=True)
    assert found.standard_error == pytest.approx(np.std(0.5 * moves[0] - 0.5 * moves[1], ddof=1) / np.sqrt(300))


def test_delta_m_counts_a_lower_error_as_a_gain():
    base, ours = np.array([[2.0, 2.1, 1.9]]), np.array([[1.0, 1.1, 0.9]])
    assert delta_m(measured(ours), measured(base), [(np.ones(1), False)]).value == pytest.approx(0.5)
    assert is_higher_better(DELTA_M)
    assert not is_higher_better("rmse_rating@test")


def test_every_difference_of_a_table_enters_its_holm_adjustment():
    variant, baseline = Variant("mmoe", []), Variant("ple", [])
    family = Family([baseline], [])
    for p in (0.02, 0.03, 0.9):
        family.differences.append(Difference(variant, baseline, "auc_click", Estimate(0.1, 0, 0, 0, 9, p, True)))
    family.decide()
    assert [difference.adjusted_p for difference in family.differences] == pytest.approx([0.06, 0.06, 0.9])
    assert {difference.mark for difference in family.differences} == {"cannot tell"}
