"""A report that many tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROGUE, write_full_run
from runs import noisy, planted, write_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants of two seeds; one of them has a name that would be markup, another no history."""
    folder = tmp_path_factory.mktemp("runs")
    rows = planted()
    for seed in (1, 2):
        write_full_run(folder / f"mmoe_{seed}", rows, seed)
        write_full_run(folder / f"rogue_{seed}", rows, seed, noise=0.7, model=f"{ROGUE} <b>bold</b> %{{x}}")
        write_run(folder / f"popularity_{seed}", rows, noisy(rows, 3, seed), model="popularity", seed=seed)
    return folder


@pytest.fixture(scope="session")
def page(runs: Path) -> Path:
    from funrec.report.page import write_report

    write_report([runs], runs / "report.html", baseline="popularity")
    return runs / "report.html"
