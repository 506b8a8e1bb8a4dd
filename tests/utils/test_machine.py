"""Threads and memory, divided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from funrec.utils import machine
from funrec.utils.errors import InputError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_workers_together_have_as_many_threads_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 12)
    assert set(machine.environment(4).values()) == {"3"}
    assert set(machine.environment(5).values()) == {"2"}
    assert set(machine.environment(40).values()) == {"1"}
    assert machine.default_workers() == 6


def test_a_number_of_threads_that_somebody_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in machine.environment(2)
    assert "TF_NUM_INTRAOP_THREADS" in machine.environment(2)


def test_a_container_grants_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    whole = machine.memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.memory() == whole
    assert machine.cores() >= 1
    (tmp_path / "memory.max").write_text(f"{3 << 30}\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert machine.memory() == 3 << 30
    assert machine.memory_per_worker(2) == 3 << 29
    assert machine.cores() == 1
    with pytest.raises(InputError, match=r"at least 1 GB of memory. Received: 4 for 3.0 GB"):
        machine.memory_per_worker(4)


@pytest.mark.slow
def test_what_takes_more_than_its_share_fails_with_an_error() -> None:
    code = (
        "from funrec.utils.machine import limit_memory\n"
        "limit_memory(1 << 30)\n"
        "fits = bytearray(1 << 28)\n"
        "try: bytearray(1 << 30)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "refused"
