"""`funrec list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from funrec.cli.arguments import Parser
from funrec.config.catalogue import GROUPS, describe


def main(arguments: Sequence[str]) -> int:
    """Print what there is to choose from, a line each, with the paper."""
    from funrec.metrics import describe_standard_metrics

    parser = Parser(prog="funrec list", description="What there is to choose from.")
    parser.add_argument("kind", nargs="?", choices=list(GROUPS), help="all kinds if not given")
    kind = parser.parse_args(arguments).kind
    for name in [kind] if kind else GROUPS:
        if not kind:
            print(f"{name}:")
        parts = [*describe_standard_metrics(), *describe(name)] if name == "metrics" else describe(name)
        width = max((len(part) for part, _ in parts), default=0)
        for part, text in parts:
            print(f"{'' if kind else '  '}{part:<{width}}  {text}")
    return 0
