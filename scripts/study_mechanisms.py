"""Does the mechanism of each model help on data made for it? Gains with intervals, over seeds of data and training.

    python scripts/study_mechanisms.py [--seeds 5] [--studies NAME ...] [--only VARIANT ...]

A study is a module of scripts/mechanisms, whose first lines say what its data are.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

from mechanisms.study import Study, run
from tabulate import tabulate


def main() -> None:
    files = sorted((Path(__file__).parent / "mechanisms").glob("*.py"))
    modules = {file.stem: file for file in files if file.stem not in ("__init__", "study")}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--studies", nargs="+", choices=modules, default=list(modules))
    parser.add_argument("--only", nargs="+", default=[], help="variants besides the baseline")
    options = parser.parse_args()
    for name in options.studies:
        study: Study = import_module(f"mechanisms.{name}").STUDY
        clock = time.process_time()
        rows = run(study, options.seeds, options.only)
        print(f"\n{study.name}: {options.seeds} seeds, {time.process_time() - clock:.0f} s of processor time\n")
        print(tabulate(rows, headers=["", study.metric, f"gain over {study.baseline}"], tablefmt="github"))


if __name__ == "__main__":
    main()
