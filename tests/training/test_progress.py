"""What a person sees: plain lines in a log, a live line on a terminal, nothing on standard output."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from funrec.training.progress import TrainingProgress

ROW = {
    "epoch": 2,
    "loss_click": 0.51234,
    "loss_like": 0.1,
    "weight_click": 1.0,
    "weight_like": 5.0,
    "auc_macro": 0.71236,
    "rows_per_second": 71234.4,
}


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
