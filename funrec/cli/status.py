"""`funrec status`: list what is finished, running or stopped and how to go on."""

from __future__ import annotations

from collections.abc import Sequence

from funrec.cli.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """Print the state of every run, derived from locks and records alone, and how to resume what stopped."""
    parser = Parser(
        prog="funrec status",
        description="What is finished, running or stopped, and how to resume. Reads only.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, sweeps, folders or globs of them")
    from funrec.sweeps.status import describe

    for text in describe(parser.parse_args(arguments).paths):
        print(text)
    return 0
