"""Placement values against all pairs, and what one user is to them."""

from __future__ import annotations

import numpy as np
import pytest

from funrec.metrics import auc
from funrec.metrics.placements import Placements


def draw(rows: int = 400, users: int = 40, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    positive = random.random(rows) < 0.3
    scores = (positive + random.normal(size=rows)).round(digits).astype(np.float32)
    return positive, scores, random.integers(0, users, rows)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_influence_is_every_users_part_in_all_pairs(digits: int) -> None:
    positive, scores, users = draw(digits=digits)
    high, low = scores[positive][:, None], scores[~positive][None, :]
    kernel = (high > low) + 0.5 * (high == low)
    value, influence = Placements(positive, users, 41).measure(scores)
    assert value == pytest.approx(kernel.mean(), abs=1e-12)
    for user in range(41):
        of_positives = kernel[users[positive] == user] - value
        of_negatives = kernel[:, users[~positive] == user] - value
        assert influence[user] == pytest.approx((of_positives.sum() + of_negatives.sum()) / kernel.size, abs=1e-12)


def test_users_are_the_sampling_unit() -> None:
    """Rows that come in threes say no more than the rows once: the same error, not one smaller by the root of 3."""
    positive, scores, users = draw()
    value, influence = Placements(positive, users, 40).measure(scores)
    thrice, its = Placements(np.repeat(positive, 3), np.repeat(users, 3), 40).measure(np.repeat(scores, 3))
    assert value == pytest.approx(thrice, abs=1e-12)
    assert value == pytest.approx(auc(positive, scores), abs=1e-12)
    assert np.linalg.norm(influence) == pytest.approx(np.linalg.norm(its), rel=1e-9)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_users_among_the_rows_are_counted_and_one_label_alone_has_no_auc() -> None:
    placements = Placements(np.array([True, True]), np.array([3, 3]), 9)
    assert placements.count == 1
    assert placements.undefined == "every label is 1"
    with pytest.raises(ValueError, match="AUC is undefined: every label is 1"):
        placements.measure(np.array([0.5, 0.7]))


def test_a_score_that_is_no_number_is_refused() -> None:
    positive, scores, users = draw()
    scores[7] = np.nan
    with pytest.raises(ValueError, match="should not be NaN"):
        Placements(positive, users, 40).measure(scores)
