"""All drills, in the order in which they are carried out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from drills import caches, runs, studies, sweeps
from drills.bench import Bench, Shared

#: What hydra-ray-launcher installs.
RAY = "hydra_plugins.hydra_ray_launcher"


@dataclass(frozen=True)
class Drill:
    """One kind of fault.

    Attributes:
        name: For `--only`.
        fault: What is done, in a few words.
        carry_out: Injects it and checks what must hold.
        most: How often it is injected at most.
        missing: Says what it lacks here to be carried out; empty if nothing.
    """

    name: str
    fault: str
    carry_out: Callable[[Bench], None]
    most: int = 1
    missing: Callable[[Shared], str] = lambda shared: ""


def _lacks_fake_time(shared: Shared) -> str:
    return "" if runs.fake_time_library() else "libfaketime is not installed"


def _lacks(module: str, name: str) -> Callable[[Shared], str]:
    def missing(shared: Shared) -> str:
        found = subprocess.run([shared.interpreter, "-c", f"import {module}"], capture_output=True).returncode == 0
        return "" if found else f"{name} is not installed"

    return missing


DRILLS = [
    Drill("kill_run", "run killed (SIGKILL) in training, checkpoint, record", runs.kill_run, most=1000),
    Drill("memory_in_training", "memory limit falls below what a run uses", runs.limit_memory, most=2),
    Drill("memory_from_start", "too little memory from the start", runs.limit_memory_from_start),
    Drill("disk_checkpoint", "disk full during a checkpoint", runs.fill_disk_during_checkpoint),
    Drill("disk_record", "disk full during the record", runs.fill_disk_during_record),
    Drill("cache_truncated", "prepared data cut short", caches.truncate_cache, most=3),
    Drill("cache_flipped", "prepared data with a bit flipped", caches.flip_bit, most=3),
    Drill("cache_rotten", "the same under an unchanged time (funrec data verify)", caches.flip_bit_unseen, most=3),
    Drill("clock", "clock turned back in a run, and before it goes on", runs.turn_clock_back, 1, _lacks_fake_time),
    Drill("job_raises", "a job of a sweep diverges", sweeps.raise_in_job),
    Drill("job_killed", "a job of a sweep killed (SIGKILL)", sweeps.kill_job),
    Drill("job_starved", "a job of a sweep beyond its share of memory", sweeps.share_memory),
    Drill("parent_killed", "a sweep's parent killed (SIGKILL)", sweeps.kill_parent, most=2),
    Drill("twins", "two identical sweeps at once, nothing prepared", sweeps.start_twins),
    Drill("study", "a study's worker killed, then its parent", studies.kill_study, 1, _lacks("optuna", "Optuna")),
    Drill("ray", "a Ray worker killed", sweeps.kill_ray_worker, 1, _lacks(RAY, "hydra-ray-launcher")),
]
