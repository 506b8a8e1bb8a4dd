"""`funrec ablate`: what each group of features adds, on top of the groups before it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from funrec.utils.errors import InputError, did_you_mean

USAGE = "funrec ablate groups=GROUP,... [OVERRIDE ...]"
#: Groups that need no list: what their features are of, by name.
HISTORY, SEQUENCES = "history", "sequences"
FIRST = "rest"


def main(arguments: Sequence[str]) -> int:
    """Run a ladder of feature groups and print the gain of each step; 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="funrec ablate",
        usage=USAGE,
        description="Train on the features of no group, then add one group after the other. A group is history (all of "
        "kind history), sequences (those of them that are), or name:feature+feature. seed=1,2,3 repeats every step.",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="groups=..., and those of funrec run")
    given = parser.parse_args(arguments).overrides
    asked = [override.partition("=")[2] for override in given if override.startswith("groups=")]
    if len(asked) != 1 or not asked[0]:
        raise InputError(
            f"groups should list the groups to add, as in groups=context:tab+hour,history. Usage: {USAGE}."
        )
    overrides = [override for override in given if not override.startswith("groups=")]
    from funrec.cli import run
    from funrec.config.compose import compose

    # What is swept, such as seed=1,2,3, does not change the features.
    about_data = ("dataset", "+dataset", "experiment")
    dataset = compose([override for override in overrides if override.startswith(about_data)])["dataset"]
    groups = _groups(asked[0].split(","), dataset["features"])
    left_out = [[name for group in list(groups)[step:] for name in groups[group]] for step in range(len(groups) + 1)]
    drops = [sorted({*(dataset.get("drop") or []), *names}) for names in left_out]
    folder = Path("outputs", "ablations", f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    choices = ",".join(f"[{','.join(drop)}]" for drop in drops)
    code = run.main(["-m", *overrides, f"dataset.drop={choices}", f"hydra.sweep.dir={folder}"])
    if code:
        return code
    print("\n" + ladder_table(folder, [FIRST, *(f"+ {name}" for name in groups)], drops))
    return 0


def _groups(texts: Sequence[str], features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the features of each group, by name."""
    histories = {name: values for name, values in features.items() if (values or {}).get("kind") == "history"}
    known = {
        HISTORY: [name for name, values in histories.items() if not values.get("last")],
        SEQUENCES: [name for name, values in histories.items() if values.get("last")],
    }
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, colon, members = text.partition(":")
        groups[name] = members.split("+") if colon else known.get(name, [])
        for member in groups[name]:
            if member not in features:
                raise InputError(f"groups: no such feature {member} in {name}.{did_you_mean(member, features)}")
        if not groups[name]:
            raise InputError(
                f"groups should be {HISTORY} or {SEQUENCES} where the dataset has any, or name:feature+feature. "
                f"Received: {text}."
            )
    return groups


def ladder_table(folder: Path, names: Sequence[str], drops: Sequence[Sequence[str]]) -> str:
    """Return a row per step and metric: its mean over seeds, and the gain over the step before with its interval.

    Args:
        folder: Of the sweep.
        names: Of the steps.
        drops: What each step left out, sorted.
    """
    from tabulate import tabulate

    from funrec.comparison.compare import compare_runs
    from funrec.comparison.text import signed
    from funrec.runs.folder import find_runs
    from funrec.runs.record import read

    runs: list[list[Path]] = [[] for _ in names]
    for path in find_runs(folder):
        runs[list(drops).index(sorted(read(path)["config"]["dataset"].get("drop") or []))].append(path)
    rows = []
    for step in range(1, len(names)):
        found = compare_runs([*runs[step - 1], *runs[step]], baseline=runs[step - 1][0], mixed_history=True)
        for one in found.against_baseline:
            if step == 1:
                first = found.values(one.baseline, one.metric).mean()
                rows.append([one.metric, 0, names[0], f"{first:.4f}", "", "", ""])
            value, estimate = found.values(one.variant, one.metric).mean(), one.estimate
            interval = f"[{estimate.low:+.4f}, {estimate.high:+.4f}]"
            rows.append([one.metric, step, names[step], f"{value:.4f}", signed(estimate.value), interval, one.mark])
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: (order.index(row[0]), row[1]))
    shown = [[row[0] if not row[1] else "", *row[2:]] for row in rows]
    headers = ["metric", "features", "value", "gain", "95% interval", "mark"]
    return tabulate(shown, headers, tablefmt="grid", disable_numparse=True)
