"""Fault drills: harm the installed `funrec` from outside, for real, and see whether it survives.

    python scripts/drill_faults.py [--only kill_run ...] [--times 10] [--seed 0] [--data dataset.rows=8000 ...]

Signals, resource limits, a full disk, bytes changed on disk, a clock that is turned back: nothing within funrec is
patched or imported. After each fault no file under its final name is half written, no finished result is touched,
`funrec resume` completes, and what is printed in the end is that of an undisturbed run, byte for byte.

Prints a table, and exits with 1 if a fault was not survived. Linux only. As root, a disk is full for real (a small
tmpfs); else files may not grow beyond a limit. The clock's drill needs libfaketime, that of Ray hydra-ray-launcher.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drills import catalogue
from drills.bench import TRAINING, Bench, Shared
from drills.processes import NotSurvived
from tabulate import tabulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [drill.name for drill in catalogue.DRILLS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--times", type=int, default=10, help="SIGKILLs of a run, and most of any other fault")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which faults come")
    parser.add_argument("--data", nargs="+", default=[], help="overrides, beyond those of the small training")
    parser.add_argument("--python", default=sys.executable, help="of the installation to test")
    parser.add_argument("--keep", type=Path, help="an empty or new folder to work in, which stays")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="funrec-drill-"))
    data = [*TRAINING, *options.data]
    shared = Shared(_command(options.python), options.python, folder.absolute(), data, options.seed, options.times)
    rows, failed = [], False
    try:
        for drill in catalogue.DRILLS:
            if options.only and drill.name not in options.only:
                continue
            row, problems = carry_out(drill, shared)
            rows.append(row)
            failed |= bool(problems)
            print("  ".join(map(str, row)), file=sys.stderr, flush=True)
            for problem in problems:
                print(f"    {problem}", file=sys.stderr, flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(tabulate(rows, headers=["drill", "fault", "injected", "survived", "seconds", ""], tablefmt="grid"))
    sys.exit(1 if failed else 0)


def carry_out(drill: catalogue.Drill, shared: Shared) -> tuple[list[object], list[str]]:
    """Carry one drill out; return its row of the table, and what was not survived."""
    if why := drill.missing(shared):
        return [drill.name, drill.fault, 0, 0, "", f"not run: {why}"], []
    started, bench = time.monotonic(), Bench(drill.name, shared, min(shared.times, drill.most))
    try:
        drill.carry_out(bench)
    except NotSurvived as problem:  # before a fault could be injected
        bench.problems.append(str(problem))
    finally:
        bench.funrec.end_all()
    seconds = f"{time.monotonic() - started:.0f}"
    return [drill.name, drill.fault, bench.injected, bench.survived, seconds, bench.remark], bench.problems


def _command(interpreter: str) -> list[str]:
    """Return the command as installed for an interpreter."""
    script = Path(interpreter).with_name("funrec")
    if script.is_file():
        return [str(script)]
    if subprocess.run([interpreter, "-m", "funrec.cli.main", "--version"], capture_output=True).returncode:
        sys.exit(f"{interpreter} should have funrec installed.")
    return [interpreter, "-m", "funrec.cli.main"]


if __name__ == "__main__":
    main()
