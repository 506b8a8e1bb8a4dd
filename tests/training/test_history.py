"""An epoch's row of the history, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

from funrec.training.history import EpochTotals

LOSSES = np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 0.0]], np.float32)
WEIGHTS = np.array([[0.5, 0.0], [0.5, 2.0], [0.5, 0.0]], np.float32)
ACTIVE = np.array([[True, False], [True, True], [True, False]])
GRAMIANS = np.array([[[4, 0], [0, 0]], [[4, -3], [-3, 9]], [[16, 0], [0, 0]]], np.float32)


def test_a_task_counts_in_the_steps_in_which_it_had_rows() -> None:
    totals = EpochTotals(["a", "b"])
    totals.add({"losses": LOSSES, "weights": WEIGHTS, "active": ACTIVE}, seconds=2.0)
    row = totals.row(1, batch_size=10, metrics={"auc_a": 0.7})
    assert row == {
        "epoch": 2,
        "steps": 3,
        "loss_a": 3.0,
        "loss_b": 4.0,
        "weight_a": 0.5,
        "weight_b": 2.0,
        "auc_a": 0.7,
        "seconds": 2.0,
        "rows_per_second": 15.0,
    }


def test_gradient_norms_and_cosines_are_means_over_the_steps_that_have_them() -> None:
    totals = EpochTotals(["a", "b"])
    for block in (slice(0, 2), slice(2, 3)):
        report = {"losses": LOSSES, "weights": WEIGHTS, "active": ACTIVE, "gramian": GRAMIANS}
        totals.add({name: values[block] for name, values in report.items()}, seconds=1.0)
    totals.fallbacks = 2
    row = totals.row(0, 10, {})
    assert row["gradient_norm_a"] == pytest.approx((2 + 2 + 4) / 3)
    assert row["gradient_norm_b"] == pytest.approx(3)
    assert row["gradient_cosine_a_b"] == pytest.approx(-0.5)
    assert row["weighting_fallbacks"] == 2


def test_losses_in_the_history_are_raw() -> None:
    totals = EpochTotals(["a", "b"])
    totals.add({"losses": LOSSES, "weights": 1000 * np.ones_like(LOSSES)}, seconds=1.0)
    assert totals.row(0, 10, {})["loss_a"] == 3.0
    assert totals.losses.tolist() == [3.0, pytest.approx(4 / 3)]
