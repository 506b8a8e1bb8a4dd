"""Threads and memory for each of several processes that run at the same time."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from funrec.utils.errors import InputError

#: What the libraries under funrec read when they start, to know how many threads to use.
THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
)

#: What TensorFlow reads to find the other workers of a run: their addresses, and which of them this process is.
CLUSTER = "TF_CONFIG"

#: Below this much, TensorFlow alone does not fit.
SMALLEST_MEMORY = 1 << 30

CGROUP = Path("/sys/fs/cgroup")


def environment(workers: int) -> dict[str, str]:
    """Return the environment variables that give one of `workers` processes an equal part of the cores.

    Set them before the process imports anything. A variable that is set already stays as it is.
    """
    threads = str(max(1, cores() // workers))
    return {name: threads for name in THREAD_VARIABLES if not os.environ.get(name)}


def default_workers() -> int:
    """Return how many processes to run at a time: one per two cores, and two where there are only two."""
    return max(min(2, cores()), cores() // 2)


def cores() -> int:
    """Return how many cores this process may use: those it is bound to, within what its container grants."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        bound = min(bound, max(1, int(quota) // int(period)))
    return bound


def memory() -> int:
    """Return the bytes of memory this process may use: the machine's, within what its container grants."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    granted = [_read(CGROUP / "memory.max"), _read(CGROUP / "memory" / "memory.limit_in_bytes")]  # cgroup 2, 1
    return min([physical, *(int(limit) for limit in granted if limit.isdecimal())])


def memory_per_worker(workers: int) -> int:
    """Return the bytes of memory that one of `workers` processes may take."""
    granted = memory() // workers
    if granted < SMALLEST_MEMORY:
        raise InputError(
            f"hydra.launcher.workers should leave each at least {SMALLEST_MEMORY >> 30} GB of memory. Received: "
            f"{workers} for {memory() / 2**30:.1f} GB. Run fewer at a time, or set hydra.launcher.limit_memory=false."
        )
    return granted


def limit_memory(bytes: int) -> None:
    """Let this process allocate so much memory of its own (files that it maps do not count), and no more.

    What goes beyond fails with an error inside the process, before the system ends whichever it likes.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        bytes = min(bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (bytes, most))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # no Linux, or no container
        return ""
