"""`funrec fuse`: one score from a run's heads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from funrec.cli.arguments import Parser
from funrec.utils.errors import InputError

if TYPE_CHECKING:
    from funrec.fusion.fuse import Fused

#: Most rows of the printed Pareto front.
MOST_PRINTED = 8


def main(arguments: Sequence[str]) -> int:
    """Search a formula for each run, print how it does beside each head alone, and keep it with the run."""
    parser = Parser(
        prog="funrec fuse",
        description="Search one score from a run's heads; funrec predict then writes it as the column score.",
        epilog="Searched on the validation split and reported on test; where there is no test split, searched on half "
        "of the validation users and reported on the other half.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--objective", required=True, help='ranking metrics to raise: "gauc_is_click + 2*gauc_is_like"')
    parser.add_argument("--heads", metavar="NAMES", help="heads to weigh, by default all tasks: is_click,is_like")
    parser.add_argument(
        "--kinds",
        help="additive (sum w*p), multiplicative (prod p^w; heads above 0), linear (sum w*logit); all that fit",
    )
    parser.add_argument(
        "--trials", type=int, default=200, metavar="N", help="formulas to try of each kind; by default 200"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the search, and of the users held out of it")
    parser.add_argument("--formula", help='one of your own instead of a search: "p_is_click^0.4 * p_is_like"')
    options = parser.parse_args(arguments)
    if find_spec("optuna") is None:
        raise InputError('funrec fuse should find Optuna. It is missing: pip install "funrec-lab[tune]".')
    from funrec.fusion.fuse import fuse

    heads, kinds = (
        None if text is None else [name.strip() for name in text.split(",")] for text in (options.heads, options.kinds)
    )
    for run in options.runs:
        found = fuse(run, options.objective, heads, kinds, options.trials, options.seed, options.formula)
        print(_text(found), flush=True)
        print(f"{run}: funrec predict writes this score as the column score.", file=sys.stderr)
    return 0


def _text(found: Fused) -> str:
    from tabulate import tabulate

    def cell(value: float, low: float, high: float, sign: str = "") -> str:
        return f"{value:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"

    metrics = list(next(iter(found.table.values())))
    scores = [
        [
            f"{name} alone" if name in found.heads else name,
            *(cell(one.value, one.low, one.high) for one in by_metric.values()),
        ]
        for name, by_metric in found.table.items()
    ]
    differences = [
        [
            head,
            *(
                cell(one.estimate.value, one.estimate.low, one.estimate.high, "+") + f" {one.mark}"
                for one in found.differences
                if one.head == head
            ),
        ]
        for head in found.heads
    ]
    step = -(-len(found.front) // MOST_PRINTED) or 1
    front = [
        [point["formula"], *(f"{value:.4f}" for value in point["report"].values())] for point in found.front[::step]
    ]
    how = f"{found.trials} formulas tried on {found.searched}; reported" if found.trials else "Reported"
    if found.left_out:
        how = f"{found.left_out[0].upper()}{found.left_out[1:]}. {how}"
    blocks = [
        f"{found.formula}\n{how} on {found.reported}, objective {found.objective}, 95% intervals over users.",
        tabulate(scores, ["score", *metrics], "grid", disable_numparse=True),
        "The first score less each head alone:",
        tabulate(differences, ["head", *metrics], "grid", disable_numparse=True),
        *found.verdicts,
    ]
    if front:
        names = list(found.front[0]["report"])
        blocks += [
            "Pareto front of the search, as reported:",
            tabulate(front, ["score", *names], "grid", disable_numparse=True),
        ]
    return "\n".join(blocks)
