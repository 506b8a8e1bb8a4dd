"""Runs of a sweep, planted: mmoe knows more than shared_bottom, ple as much as shared_bottom; logistic knows most."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import noisy, planted, write_run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rows = tmp_path_factory.mktemp("sweep"), planted(users=400)
    for model, noise in (("shared_bottom", 1.5), ("mmoe", 0.5), ("ple", 1.5), ("logistic", 0.3)):
        for seed in range(3):
            write_run(folder / f"{model}_{seed}", rows, noisy(rows, noise, seed + 10 * len(model)), model, seed)
    return folder


@pytest.fixture
def sweep(written: Path, tmp_path: Path) -> Path:
    """Three seeds of each model, to do with as a test likes."""
    return shutil.copytree(written, tmp_path / "sweep")
