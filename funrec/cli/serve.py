"""`funrec serve`: an exported model over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser
from funrec.utils.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Answer requests until stopped."""
    parser = Parser(
        prog="funrec serve",
        description="Serve an exported model on 127.0.0.1: POST /predict, GET /schema, /health and /metrics.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run that was exported as onnx or savedmodel")
    parser.add_argument("--format", choices=("onnx", "savedmodel"), help="which export; onnx if there is one")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free; by default 8000")
    parser.add_argument("--most-rows", type=int, default=1000, metavar="N", help="rows of a request; by default 1000")
    parser.add_argument(
        "--most-bytes", type=int, default=1 << 22, metavar="N", help="bytes of a request; by default 4 MiB"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 1 << 16:
        raise InputError(f"--port should be from 0 to 65535. Received: {options.port}.")
    for name in ("most_rows", "most_bytes"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} should be positive. Received: {getattr(options, name)}.")
    try:
        from funrec.export.served import ServedModel
        from funrec.export.server import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f'funrec serve should find {error.name}. It is missing: pip install "funrec-lab[serve]".'
        ) from None
    model = ServedModel(options.run, options.format, options.most_rows)
    serve(
        model,
        options.port,
        options.most_bytes,
        lambda address: print(f"{address} serves {model.label} ({model.format}). Ctrl-C ends it.", flush=True),
    )
    return 0
