"""Memory: how much more a run takes when its log grows twentyfold.

    python scripts/bench_memory.py --rows 1000000 20000000

Every size is one `funrec run` (prepare, one epoch, evaluation) in a process and a cache of its own. What is reported is
the peak of anonymous memory (RssAnon): pages of memory-mapped arrays are the system's to drop, and do not count.
Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 20_000_000])
    parser.add_argument("overrides", nargs="*", help="further overrides of the runs")
    arguments = parser.parse_args()
    peaks = []
    for rows in arguments.rows:
        peak, seconds = measure(rows, arguments.overrides)
        peaks.append(peak)
        print(f"{rows:>11,} rows: peak {peak / 1e9:.2f} GB of anonymous memory, {seconds:.0f} s", flush=True)
    print(f"growth: {(peaks[-1] - peaks[0]) / 1e9:.2f} GB")


def measure(rows: int, overrides: list[str]) -> tuple[int, float]:
    """Return the peak of anonymous memory in bytes of one run over `rows` rows, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "funrec.cli.main",
            "run",
            f"dataset.rows={rows}",
            "trainer.epochs=1",
            *overrides,
        ]
        environment = {**os.environ, "FUNREC_CACHE": f"{folder}/cache"}
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        peak = 0
        while child.poll() is None:
            peak = max(peak, anonymous_bytes(child.pid))
            time.sleep(0.05)
        if child.returncode:
            sys.exit(f"The run of {rows:,} rows failed with exit code {child.returncode}.")
        return peak, time.perf_counter() - started


def anonymous_bytes(process: int) -> int:
    """Return a process's resident anonymous memory in bytes, 0 once it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
