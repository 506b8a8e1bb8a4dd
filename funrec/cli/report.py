"""`funrec report`: finished runs in one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Write finished runs into one HTML file that opens offline; 1 if a record or predictions are damaged."""
    parser = Parser(
        prog="funrec report",
        description="Draw finished runs in one HTML file that opens offline: comparison, curves, gates, diagnosis.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweep folders, or globs of them")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="by default report.html")
    parser.add_argument("--baseline", metavar="NAME", help="a model, a setting (weighting=fixed) or a run's folder")
    parser.add_argument("--columns", metavar="METRICS", help="such as auc_macro,gauc_* or auc_*@random")
    options = parser.parse_args(arguments)
    from funrec.utils.errors import InputError

    try:
        from funrec.report.page import write_report
    except ModuleNotFoundError as error:
        missing = {"plotly": "Plotly", "jinja2": "Jinja2"}.get(str(error.name).partition(".")[0])
        if missing is None:
            raise
        raise InputError(
            f'funrec report should find {missing}. It is missing: pip install "funrec-lab[report]".'
        ) from None

    columns = options.columns.split(",") if options.columns else None
    found = write_report(options.paths, options.output, options.baseline, columns)
    for note in found.notes:
        print(note, file=sys.stderr)
    print(options.output)
    return 1 if found.damaged else 0
