"""`funrec policy`: what a policy of a run's scores would earn, from logged choices."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser

#: Choices of equal weight below which the intervals of IPS and SNIPS cover too little (docs/objectives.md).
FEW = 150


def main(arguments: Sequence[str]) -> int:
    """Print IPS, SNIPS and DR estimates of a softmax policy over a run's scores, beside what was logged."""
    parser = Parser(
        prog="funrec policy",
        description="What a policy that follows a run's scores would earn, from logged choices with propensities.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run of dataset=obd")
    parser.add_argument("--reward", metavar="TASK", help="the task that is the reward; by default the first")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="near 0 the best item is chosen, in standard deviations of scores",
    )
    parser.add_argument("--split", help="whose rows; by default test if there is one, else valid")
    options = parser.parse_args(arguments)
    from tabulate import tabulate

    from funrec.utils.logging import load_tensorflow

    load_tensorflow()
    from funrec.experiment.policy import estimate_policy

    found = estimate_policy(options.run, options.reward, options.temperature, options.split)
    rows = [[name, f"{one.value:.5f}", f"[{one.low:.5f}, {one.high:.5f}]"] for name, one in found.values.items()]
    print(tabulate(rows, ["estimator", f"mean {found.reward}", "95% interval"], "grid", disable_numparse=True))
    print(
        f"Softmax of {found.score} at temperature {options.temperature:g} over {found.items} items, {found.rows:,} "
        f"logged choices of the {found.split} split, worth {found.effective_rows:,.0f} of equal weight. "
        "logged is what the logging policy earned."
    )
    if found.effective_rows < FEW:
        print("So few make the intervals of ips and snips too narrow; those of dr need a good model.", file=sys.stderr)
    return 0
