"""Single features against what they are known to tell."""

from __future__ import annotations

import numpy as np
import pytest

from funrec.metrics import auc
from funrec.metrics.heads import auc_of_codes, auc_of_numbers


def test_a_copy_of_the_label_tells_all_and_a_number_of_the_row_nothing() -> None:
    random = np.random.default_rng(0)
    train, valid = (random.integers(0, 2, 2000).astype(np.float32) for _ in range(2))
    copy = [labels.astype(np.int32) + 1 for labels in (train, valid)]
    assert auc_of_codes(copy[0], train, copy[1], valid) == 1.0
    # Codes of single training rows say nothing of rows that carry none of them.
    assert auc_of_codes(np.arange(1, 2001), train, np.zeros(2000, np.int32), valid) == 0.5


def test_codes_score_their_rate_in_training() -> None:
    random = np.random.default_rng(1)
    train_codes, codes = random.integers(0, 5, 5000), random.integers(0, 5, 5000)
    rates = np.array([0.1, 0.5, 0.3, 0.9, 0.7])
    train, labels = ((random.random(5000) < rates[c]).astype(np.float32) for c in (train_codes, codes))
    assert auc_of_codes(train_codes, train, codes, labels) == pytest.approx(auc(labels, rates[codes]), abs=1e-12)


def test_a_number_may_fall_with_the_label() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auc_of_numbers(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 1.0
    assert auc_of_numbers(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1.0
