"""`funrec explain`: which features a finished run's model relies on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser
from funrec.utils.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Print the permutation importance of features and groups of features, with intervals."""
    parser = Parser(
        prog="funrec explain",
        description="How much AUC a model loses on validation rows where a feature's values are shuffled.",
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=FEATURES",
        help="features to shuffle together: ids=user_id,tag",
    )
    parser.add_argument("--rows", type=int, default=10_000, help="most validation rows; by default 10000")
    parser.add_argument("--repeats", type=int, default=10, help="shuffles of each; by default 10")
    parser.add_argument("-o", "--output", type=Path, help="a CSV file for the same table")
    options = parser.parse_args(arguments)
    for given in options.group:
        if "=" not in given:
            raise InputError(f"--group should be a name and features, as in ids=user_id,tag. Received: {given}.")
    from funrec.utils.logging import load_tensorflow

    load_tensorflow()
    from tabulate import tabulate

    from funrec.experiment.explain import explain

    groups = {name: members.split(",") for name, _, members in (given.partition("=") for given in options.group)}
    found = explain(options.run, groups, options.rows, options.repeats)
    if options.output:
        found.to_csv(options.output, index=False)
    rows = [
        [task, feature, f"{mean:+.4f}", f"[{low:+.4f}, {high:+.4f}]"]
        for feature, task, mean, low, high in found.itertuples(index=False)
    ]
    print(tabulate(rows, headers=["task", "feature", "AUC lost", "95% interval"], disable_numparse=True))
    return 0
