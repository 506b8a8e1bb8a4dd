"""`funrec predict`: raw rows scored with a finished run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Score the rows of a file with a finished run, and say how many there were."""
    parser = argparse.ArgumentParser(
        prog="funrec predict",
        description="Score raw rows: a probability per task and conditional head, in the order of the rows.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", help="raw rows: csv, tsv or parquet, a folder or a glob of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where scores go: .parquet or .csv")
    options = parser.parse_args(arguments)
    from funrec.experiment.experiment import load_run

    clock = time.perf_counter()
    predictor = load_run(options.run).predictor
    loaded = time.perf_counter()
    rows = predictor.score_file(options.file, options.output)
    seconds = time.perf_counter() - loaded
    print(
        f"{options.output}: {rows:,} rows, {rows / seconds:,.0f} rows/s (the model loaded in {loaded - clock:.1f} s)",
        file=sys.stderr,
    )
    return 0
