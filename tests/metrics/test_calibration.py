"""Calibration, against hand-computed cases, scikit-learn and planted truth."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from funrec.metrics.base import sigmoid
from funrec.metrics.calibration import (
    expected_calibration_error,
    predicted_over_observed,
    reliability_bins,
)
from funrec.metrics.sorting import UndefinedMetric


def test_sigmoid_keeps_both_tails_without_overflow():
    assert sigmoid([-np.inf, -800.0, 0.0, 800.0, np.inf]).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert sigmoid([-50.0])[0] == pytest.approx(np.exp(-50.0), rel=1e-12)


def test_ratio_is_predicted_over_observed():
    assert predicted_over_observed([1, 0, 0, 0], [0.5, 0.2, 0.2, 0.1]) == pytest.approx(1.0)
    assert predicted_over_observed([1, 0], [0.9, 0.6]) == pytest.approx(1.5)
    with pytest.raises(UndefinedMetric, match="no label is 1"):
        predicted_over_observed([0, 0], [0.1, 0.2])


def test_bins_of_equal_mass_equal_scikit_learn_quantiles():
    random = np.random.default_rng(0)
    probabilities = random.random(1000) ** 3
    labels = random.random(1000) < probabilities
    observed, predicted = calibration_curve(labels, probabilities, n_bins=8, strategy="quantile")
    bins = reliability_bins(labels, probabilities, num_bins=8)
    assert bins.rows.tolist() == [125] * 8
    np.testing.assert_allclose(bins.predicted, predicted, atol=1e-12)
    np.testing.assert_allclose(bins.observed, observed, atol=1e-12)


def test_expected_calibration_error_is_the_hand_computed_value():
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.3, 0.6, 0.8]
    # Bins {.1, .3}: .2 against .5. Bins {.6, .8}: .7 against 1.
    assert expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(0.3)
    # The bin that holds all: .45 against .75.
    assert expected_calibration_error(labels, probabilities, num_bins=1) == pytest.approx(0.3)
    assert expected_calibration_error([1, 0], [1.0, 0.0], num_bins=2) == 0.0


def test_rows_of_one_probability_share_a_bin_in_whatever_order_they_come():
    labels = np.array([1, 1, 0, 0, 0, 1], bool)
    probabilities = np.array([0.5, 0.5, 0.5, 0.5, 0.1, 0.9])
    bins = reliability_bins(labels, probabilities, num_bins=3)
    assert bins.rows.sum() == 6
    assert 0.5 in bins.observed
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(6)
        assert expected_calibration_error(labels[order], probabilities[order], 3) == expected_calibration_error(
            labels, probabilities, 3
        )


def test_error_of_true_probabilities_is_as_small_as_chance_makes_it():
    random = np.random.default_rng(0)
    probabilities = random.random(40_000)
    labels = random.random(40_000) < probabilities
    # Ten bins of 4,000 rows: each observed rate errs by at most sqrt(.25 / 4000) = .008 (one standard deviation).
    assert expected_calibration_error(labels, probabilities) < 0.008
    assert expected_calibration_error(labels, probabilities**2) > 0.1


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"from 0 to 1. Received: -2.0 to 0.5"):
        predicted_over_observed([1, 0], [-2.0, 0.5])
    with pytest.raises(UndefinedMetric, match="no row"):
        reliability_bins([], [])
