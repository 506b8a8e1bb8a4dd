"""Many runs in one process: the last is as the first, and leaves no more behind."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from funrec.config.compose import compose
from funrec.experiment import experiment
from funrec.experiment.run import Run
from funrec.models.model import MultiTaskModel

pytestmark = pytest.mark.slow

RUNS = 3


def memory() -> int:
    """Return the bytes of memory that belong to this process alone."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc to measure memory")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


@pytest.fixture
def run(tmp_path: Path) -> Callable[[int], Run]:
    # Dropout and a weighting that takes gradients apart: whatever makes graphs.
    config = compose(["dataset.rows=2000", "trainer=smoke", "model=shared_bottom", "weighting=mgda"])

    def start(number: int) -> Run:
        folder = tmp_path / str(number)
        folder.mkdir()
        return experiment.run(config, folder)

    return start


def test_runs_in_one_process_leave_nothing_behind_and_do_not_change_each_other(run: Callable[[int], Run]) -> None:
    first = run(0).metrics
    gc.collect()
    run(1)
    gc.collect()
    objects, size, threads = len(gc.get_objects()), memory(), threading.active_count()
    handlers = [logging.getLogger(name).handlers[:] for name in (None, "funrec", "tensorflow")]
    for number in range(2, 2 + RUNS):
        assert run(number).metrics == first
        gc.collect()  # Python would wait until there are enough objects
    # One graph is thousands of objects, and ten megabytes.
    assert (len(gc.get_objects()) - objects) / RUNS < 200
    assert (memory() - size) / RUNS < 2 * 2**20
    assert threading.active_count() == threads
    assert [logging.getLogger(name).handlers[:] for name in (None, "funrec", "tensorflow")] == handlers


def test_large_models_do_not_wait_for_one_another(run: Callable[[int], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funrec.experiment.building.MAY_WAIT", 0)  # as if these were of gigabytes
    gc.collect()
    before = sum(isinstance(found, MultiTaskModel) for found in gc.get_objects())
    for number in range(2):
        run(number)
        assert sum(isinstance(found, MultiTaskModel) for found in gc.get_objects()) <= before + 1
