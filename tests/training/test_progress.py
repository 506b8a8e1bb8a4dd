"""What a person sees: plain lines in a log, a live line on a terminal, nothing on standard output; and
an epoch's row of the history, against sums by hand.
"""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from funrec.training.progress import EpochTotals, TrainingProgress

ROW = {
    "epoch": 2,
    "loss_click": 0.51234,
    "loss_like": 0.1,
    "weight_click": 1.0,
    "weight_like": 5.0,
    "auc_macro": 0.71236,
    "rows_per_second": 71234.4,
}

LOSSES = np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 0.0]], np.float32)
WEIGHTS = np.array([[0.5, 0.0], [0.5, 2.0], [0.5, 0.0]], np.float32)
ACTIVE = np.array([[True, False], [True, True], [True, False]])
GRAMIANS = np.array([[[4, 0], [0, 0]], [[4, -3], [-3, 9]], [[16, 0], [0, 0]]], np.float32)


def test_an_epoch_is_one_plain_line(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "funrec"), TrainingProgress(["click", "like"], 100, live=False) as progress:
        progress.advance(0, 10, 5e4, np.ones(2), np.ones(2))
        progress.end_epoch(ROW, "auc_macro")
    assert caplog.messages == ["epoch 2: click 0.5123 like 0.1000 (x5), auc_macro 0.7124, 71,234 rows/s"]
    assert capsys.readouterr().out == ""


def test_a_monitor_that_has_no_value_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "funrec"), TrainingProgress(["click", "like"], 100, live=False) as progress:
        progress.end_epoch(ROW, "gauc_macro")
    assert caplog.messages == ["epoch 2: click 0.5123 like 0.1000 (x5), 71,234 rows/s"]


def test_a_terminal_shows_epoch_speed_and_losses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("funrec.training.progress.Console", lambda stderr: terminal)
    with TrainingProgress(["click", "like"], 100, live=True) as progress:
        progress.advance(1, 40, 71234.0, np.array([0.5, 0.1]), np.array([1.0, 1.0]))
    shown = screen.getvalue()
    for text in ("epoch 2", "40%", "71,234 rows/s", "click 0.5000 like 0.1000"):
        assert text in shown
    assert capsys.readouterr().out == ""


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
