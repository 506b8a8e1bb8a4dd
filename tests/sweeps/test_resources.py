"""Threads and memory, divided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from funrec.sweeps import resources
from funrec.utils.errors import InputError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in resources.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_workers_together_have_as_many_threads_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cores", lambda: 12)
    assert set(resources.environment(4).values()) == {"3"}
    assert set(resources.environment(5).values()) == {"2"}
    assert set(resources.environment(40).values()) == {"1"}
    assert resources.default_workers() == 6


def test_a_number_of_threads_that_somebody_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in resources.environment(2)
    assert "TF_NUM_INTRAOP_THREADS" in resources.environment(2)


def test_a_container_grants_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    machine = resources.memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.memory() == machine
    assert resources.cores() >= 1
    (tmp_path / "memory.max").write_text(f"{3 << 30}\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert resources.memory() == 3 << 30
    assert resources.memory_per_worker(2) == 3 << 29
    assert resources.cores() == 1
    with pytest.raises(InputError, match=r"at least 1 GB of memory. Received: 4 for 3.0 GB"):
        resources.memory_per_worker(4)


@pytest.mark.slow
def test_what_takes_more_than_its_share_fails_with_an_error() -> None:
    code = (
        "from funrec.sweeps.resources import limit_memory\n"
        "limit_memory(1 << 30)\n"
        "fits = bytearray(1 << 28)\n"
        "try: bytearray(1 << 30)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "refused"
