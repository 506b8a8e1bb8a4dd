"""`funrec predict`: raw rows scored with a finished run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Score the rows of a file with a finished run, and say how many there were."""
    parser = Parser(
        prog="funrec predict",
        description="Score raw rows: a probability per task and conditional head, in the order of the rows.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", help="raw rows: csv, tsv or parquet, a folder, a glob or a URI of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where scores go: .parquet or .csv")
    parser.add_argument(
        "--keep", default="", metavar="COLUMNS", help="columns to put before the scores, such as user_id,video_id"
    )
    parser.add_argument(
        "--logits", action="store_true", help="write logits, logit_<task>, instead of probabilities, p_<task>"
    )
    parser.add_argument(
        "--history", metavar="LOG", help="rows with outcomes, later than the run's log: what histories may see as well"
    )
    options = parser.parse_args(arguments)
    from funrec.experiment.run import load_run

    clock = time.perf_counter()
    predictor = load_run(options.run).predictor
    if options.history is not None:
        predictor.move_on(options.history)
    loaded = time.perf_counter()
    keep = [column.strip() for column in options.keep.split(",") if column.strip()]
    rows = predictor.score_file(options.file, options.output, keep, options.logits)
    seconds = time.perf_counter() - loaded
    for start, kind in (("p_", "probabilities"), ("logit_", "logits"), ("value_", "values")):
        if names := [name for name in predictor.columns(options.logits) if name.startswith(start)]:
            print(f"{kind}: {', '.join(names)}", file=sys.stderr)
    print(
        f"{options.output}: {rows:,} rows, {rows / seconds:,.0f} rows/s (the model loaded in {loaded - clock:.1f} s)",
        file=sys.stderr,
    )
    return 0
