"""What all tests share: one cache of prepared data, and the command line as a function."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import absl.logging
import pytest
from commands import Command, Done, process_unchanged

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before any test imports TensorFlow
if "PYTEST_XDIST_WORKER" in os.environ:  # each of which has a core, and would only wait for threads of its own
    for kind in ("INTRA", "INTER"):
        os.environ.setdefault(f"TF_NUM_{kind}OP_THREADS", "1")
# When Hydra sets logging up, absl closes the stream it was born with, which would be one that pytest writes to.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepare the same data once in all tests, and leave the user's own cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("FUNREC_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets, which are no part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def funrec(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the `funrec` command in this process, which spares every test TensorFlow's start."""

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        with process_unchanged(), pytest.raises(SystemExit) as stop:
            from funrec.cli.main import main

            main(arguments)
        done = capsys.readouterr()
        return Done(int(stop.value.code or 0), done.out, done.err)

    return call
