"""`funrec compare`: finished runs side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from funrec.cli.arguments import Parser
from funrec.cli.console import width


def main(arguments: Sequence[str]) -> int:
    """Print runs side by side, with the differences from a baseline; 1 if a record or predictions are damaged."""
    parser = Parser(
        prog="funrec compare",
        description="Set finished runs side by side: seeds grouped, differences with intervals. Nothing is trained.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweep folders, or globs of them")
    parser.add_argument("--baseline", metavar="NAME", help="a model, a setting (weighting=fixed) or a run's folder")
    parser.add_argument("--format", default="grid", help="grid, github, latex or csv")
    parser.add_argument("--columns", metavar="METRICS", help="such as auc_macro,gauc_* or auc_*@random")
    parser.add_argument("--sort", metavar="COLUMN", help="a metric, best first, or another column")
    parser.add_argument("--mixed-history", action="store_true", help="let runs differ in how their histories look back")
    options = parser.parse_args(arguments)
    from funrec.comparison.compare import compare_runs
    from funrec.comparison.notes import sentences
    from funrec.comparison.text import comparison_tables
    from funrec.runs.tables import check_format

    check_format(options.format)
    columns = options.columns.split(",") if options.columns else None
    found = compare_runs(options.paths, options.baseline, columns, options.sort, options.mixed_history)
    print(comparison_tables(found, options.format, width()), flush=True)
    # A file that a program reads holds the table alone.
    reader = sys.stdout if options.format in ("grid", "github") else sys.stderr
    print("", *sentences(found), sep="\n", file=reader)
    return 1 if found.damaged else 0
