"""How long does `funrec compare` take, and how much memory? The aim: 100 runs of 500,000 rows in a minute and 2 GB.

Writes made-up runs (random scores of three tasks, with the records that go with them) to a temporary folder, compares
them in a process of its own, and prints its seconds and its peak memory.

    python scripts/bench_compare.py
    python scripts/bench_compare.py --runs 10 --rows 100000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from funrec.metrics import evaluate
from funrec.runs import record
from funrec.schema import Task

TASKS = (Task("is_click", "is_click"), Task("long_view", "long_view"), Task("is_like", "is_like"))
RATES = (0.4, 0.28, 0.03)


def write_runs(folder: Path, runs: int, seeds: int, rows: int, users: int) -> None:
    """Write so many runs: variants `model_0` and so on, of `seeds` runs each, the first of them called single_task."""
    random = np.random.default_rng(0)
    # Activity of users is skewed, as it is everywhere.
    groups = (users * random.random(rows) ** 2).astype(np.int64)
    signal = random.standard_normal((rows, len(TASKS)))
    offsets = np.log(RATES) - np.log1p(-np.array(RATES))
    labels = (random.random(signal.shape) < 1 / (1 + np.exp(-signal - offsets))).astype(np.float32)
    for number in range(runs):
        variant, seed = divmod(number, seeds)
        noise = (1 + 0.01 * variant) * random.standard_normal(signal.shape)
        scores = (signal + noise + offsets).astype(np.float32)
        run = folder / f"{number}"
        run.mkdir()
        columns = {"split": np.full(rows, "valid"), "row": np.arange(rows), "group": groups, "item": groups}
        for place, task in enumerate(TASKS):
            columns |= {f"label_{task.name}": labels[:, place], f"score_{task.name}": scores[:, place]}
        record.write_predictions(run, columns)
        label = f"model_{variant}" if variant else "single_task"
        record.write(
            run,
            {
                "label": label,
                "config": {"model": {"name": label}, "seed": seed},
                "seed": seed,
                "tasks": [task.name for task in TASKS],
                "row_fingerprint": {"valid": "rows"},
                "rows_per_second": None,
                "metrics": evaluate(TASKS, labels, scores, groups=groups, level="table").metrics,
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5, help="runs of one variant")
    parser.add_argument("--rows", type=int, default=500_000, help="validation rows of every run")
    parser.add_argument("--users", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_runs(Path(name), options.runs, options.seeds, options.rows, options.users)
        command = [sys.executable, "-m", "funrec.cli.main", "compare", name, "--baseline", "single_task"]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n".join(done.stdout.splitlines()[:8]))
    print(f"{options.runs} runs of {options.rows:,} rows and {options.users:,} users, {len(TASKS)} tasks:")
    processor, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
    print(f"  {seconds:.1f} s ({processor:.1f} s of processors), {peak:.2f} GB resident at its peak, Python included")


if __name__ == "__main__":
    main()
