"""`funrec export`: a finished run's model for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser

EMBEDDINGS = "embeddings"


def main(arguments: Sequence[str]) -> int:
    """Export a model, and print how far its scores are from the run's."""
    from funrec.export.export import FORMATS, PROOF, export

    parser = Parser(
        prog="funrec export",
        description="Export a finished run's model, compared with the run's scores, or its embeddings as Parquet.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--format", choices=(*FORMATS, EMBEDDINGS), default="savedmodel", help="by default savedmodel")
    parser.add_argument("-o", "--output", type=Path, help="the folder to make; RUN/export/FORMAT if not given")
    options = parser.parse_args(arguments)
    output = options.output or options.run / "export" / options.format
    if options.format == EMBEDDINGS:
        from funrec.export.embeddings import export_embeddings

        for path in export_embeddings(options.run, output):
            print(path)
        return 0
    proof = export(options.run, options.format, output)
    one, many = proof["milliseconds_by_rows"]["1"], proof["milliseconds_by_rows"]["1000"]
    print(
        f"{output}: {proof['bytes'] / 1e6:.1f} MB; {proof['rows_compared']:,} rows, largest difference "
        f"{proof['largest_difference']:.1e} from {proof['compared_with']}; {one:.2f} ms for 1 row, {many:.2f} ms for "
        f"1,000. Inputs and outputs: {output / PROOF}"
    )
    return 0
