"""What a sweep's jobs cost beyond their training, and what several processes gain.

    python scripts/bench_sweep.py [--jobs 20] [--rows 40000]

Runs the same short jobs one after the other in one process, then in two processes at a time, forked from one that has
imported TensorFlow or started from nothing, on data that is prepared already.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROCESS = ("hydra/launcher=process", "hydra.launcher.workers=2")
LAUNCHERS = {
    "serial": ("hydra/launcher=basic",),
    "forked": PROCESS,
    "started": (*PROCESS, "hydra.launcher.preload=false"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = (f"seed=range({options.jobs})", f"dataset.rows={options.rows}", f"trainer.epochs={options.epochs}")
        run(folder, "warm", ("model=mmoe", "seed=0,1", *jobs[1:]))
        print(f"{options.jobs} jobs of mmoe, {options.rows:,} rows, {options.epochs} epochs, {os.cpu_count()} cores")
        serial = 0.0
        for name, launcher in LAUNCHERS.items():
            seconds = run(folder, name, ("model=mmoe", *launcher, *jobs))
            serial = serial or seconds
            records = list(Path(folder, name).glob("*/record.json"))
            training = sum(json.loads(record.read_text())["seconds"]["train"] for record in records) / len(records)
            print(
                f"{name:8} {seconds:6.1f} s, {seconds / serial:4.0%} of the serial time; a job takes "
                f"{interval(records, 1 if name == 'serial' else 2):.1f} s, of which it trains {training:.1f} s",
                flush=True,
            )


def interval(records: list[Path], at_once: int) -> float:
    """Return the mean seconds from one job's end to the next one's, times the jobs that ran at once."""
    ends = sorted(record.stat().st_mtime for record in records)
    return (ends[-1] - ends[at_once - 1]) / (len(ends) - at_once) * at_once


def run(folder: str, name: str, arguments: tuple[str, ...]) -> float:
    """Run a sweep and return its seconds."""
    environment = os.environ | {"FUNREC_CACHE": str(Path(folder, "cache"))}
    command = [sys.executable, "-m", "funrec.cli.main", "run", "-m", f"hydra.sweep.dir={folder}/{name}", *arguments]
    clock = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - clock


if __name__ == "__main__":
    main()
