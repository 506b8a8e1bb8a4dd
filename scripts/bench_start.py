"""Start: seconds from typing `funrec --help`, and `funrec run model=mmoe` on the default data, to the command's end.

    python scripts/bench_start.py [--turns 3]

The best of the turns counts; a run starts in an empty folder, with nothing prepared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    for arguments in (["--help"], ["run", "model=mmoe"]):
        print(f"funrec {' '.join(arguments)}: {min(measure(arguments) for _ in range(turns)):.2f} s")


def measure(arguments: list[str]) -> float:
    """Return the seconds that one command takes."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "FUNREC_CACHE": f"{folder}/cache"}
        started = time.perf_counter()
        command = [sys.executable, "-m", "funrec.cli.main", *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
