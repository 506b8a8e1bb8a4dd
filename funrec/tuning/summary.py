"""A study in words: its best trials, which keys mattered, and how its winner compares with where it began."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from funrec.comparison.compare import compare_runs
from funrec.comparison.notes import sentences
from funrec.comparison.significance import SEEDS_FOR_VARIANTS
from funrec.comparison.text import comparison_tables
from funrec.config.compose import parse_override
from funrec.runs import record
from funrec.tuning.results import (
    FAILED,
    FINISHED,
    PRUNED,
    TRIALS_FOR_IMPORTANCE,
    Outcome,
    duration,
    importance,
    outcomes,
    ranked,
    write_trials,
)
from funrec.tuning.study import StudyFolder
from funrec.utils.errors import InputError
from funrec.utils.files import replacing
from funrec.utils.locks import locked

BEST = "best"

#: Groups that are written whole, so that no default of another model remains in them.
GROUPS = ("dataset", "model", "weighting", "optimizer", "trainer", "metrics")

#: Rows of the table: the best, and the configuration as it was.
SHOWN = 10
REASONS_SHOWN = 5


def conclude(study: StudyFolder, live: bool = False, force: bool = False) -> str:
    """Write the winner's configuration and return the summary; with `search.confirm` also run fresh seeds."""
    write_trials(study)
    found, plan = outcomes(study), study.plan
    best = ranked(study, found)
    if not best:
        reasons = next((outcome.reason for outcome in found if outcome.state == FAILED), "no trial was begun")
        raise InputError(f"{study.path}: no trial finished. The first reason: {reasons}.")
    winner, is_pareto = best[0], len(plan.settings.objectives) > 1
    front = [outcome for outcome in found if outcome.number in study.best_numbers] if is_pareto else [winner]
    parts = [_table(study, best), *_counts(found)]
    if is_pareto:
        parts.append(
            f"Pareto set: {_which(front).lower()}. Trial {winner.number} has the best mean rank over the objectives."
        )
    parts += [*_importance(study, len(best)), "", *_winner(study, winner, front), ""]
    started, chosen = any(outcome.number == 0 for outcome in best), [outcome for outcome in front if outcome.number]
    if not started:
        parts.append("The configuration as it was did not finish, so that there is nothing to compare the winner with.")
    elif not chosen:
        parts.append("No trial did better than the configuration as it was.")
    else:
        folders = {study.folder(number): str(number) for number in (0, *(outcome.number for outcome in chosen))}
        parts += [f"{_which(chosen)} against trial 0, the configuration as it was:", ""]
        parts += [_comparison(folders, study.folder(0), "trial"), *_cautions(study, winner, len(best))]
    if plan.settings.confirm and winner.number and started:
        seeds = f"{plan.settings.confirm} fresh seed{'s' * (plan.settings.confirm > 1)}"
        parts += ["", f"The winner and the configuration as it was, {seeds} each:", ""]
        parts.append(_confirm(study, winner, live, force))
    return "\n".join(parts)


def _table(study: StudyFolder, best: Sequence[Outcome]) -> str:
    keys = list(study.plan.space)
    headers = ["trial", *study.plan.settings.objectives, *_short_names(keys), "epochs run", "time"]
    rows = [
        [
            str(outcome.number) + (" (start)" if outcome.number == 0 else ""),
            *(f"{value:.4f}" for value in outcome.values),
            *(_value(outcome.params.get(key)) for key in keys),
            str(outcome.epochs or ""),
            "" if outcome.seconds is None else duration(outcome.seconds),
        ]
        for place, outcome in enumerate(best)
        if place < SHOWN or outcome.number == 0
    ]
    return tabulate(rows, headers=headers, tablefmt="grid", disable_numparse=True, colalign=["right"] * len(headers))


def _counts(found: Sequence[Outcome]) -> list[str]:
    """Return how many trials finished, were pruned and failed, with the reasons of those that failed."""
    counts = {state: sum(outcome.state == state for outcome in found) for state in (FINISHED, PRUNED, FAILED)}
    lines = [", ".join(f"{count} {state}" for state, count in counts.items() if count or state == FINISHED) + "."]
    failed = [f"trial {outcome.number} failed: {outcome.reason}" for outcome in found if outcome.state == FAILED]
    if len(failed) > REASONS_SHOWN:
        failed[REASONS_SHOWN:] = [f"... and {len(failed) - REASONS_SHOWN} more: their folders say why."]
    return lines + failed


def _importance(study: StudyFolder, finished: int) -> list[str]:
    found = importance(study)
    if not found:
        return [f"With fewer than {TRIALS_FOR_IMPORTANCE} finished trials, the importance of keys is not estimated."]
    names = dict(zip(study.plan.space, _short_names(list(study.plan.space)), strict=True))
    lines = []
    for objective, by_key in found.items():
        listed = ", ".join(f"{names[key]} {value:.0%}" for key, value in by_key.items())
        of = f" for {objective}" if len(found) > 1 else ""
        lines.append(f"Importance of keys{of} (PED-ANOVA over {finished} trials): {listed}.")
    return lines


def _winner(study: StudyFolder, winner: Outcome, front: Sequence[Outcome]) -> list[str]:
    folder = study.path / BEST
    _write_experiment(study, winner, folder, BEST)
    overrides = study.plan.overrides(winner.params if winner.number else {})
    lines = [
        f"Best: trial {winner.number}: {' '.join(shlex.quote(override) for override in overrides) or 'the defaults'}",
        f"Run it again: funrec run --config-dir {shlex.quote(str(folder))} experiment={BEST}",
    ]
    if len(front) > 1:
        for outcome in front:
            _write_experiment(study, outcome, folder, f"trial_{outcome.number}")
        lines.append(f"or another of the Pareto set: experiment=trial_{front[-1].number}, and so on.")
    return lines


def _write_experiment(study: StudyFolder, outcome: Outcome, folder: Path, name: str) -> None:
    """Write a trial's configuration as an experiment: `funrec run --config-dir FOLDER experiment=NAME`."""
    config, objectives = record.read(study.folder(outcome.number))["config"], study.plan.settings.objectives
    values = ", ".join(f"{metric} {value:.4f}" for metric, value in zip(objectives, outcome.values, strict=True))
    title = (
        f"# Trial {outcome.number} of {study.path.name}, of {study.total} searched by {study.plan.search}: {values}.\n"
    )
    for group in GROUPS:
        _write(folder / group / f"{name}.yaml", title, config[group])
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, "baselines")}
    defaults = [*({f"override /{group}": name} for group in GROUPS), "_self_"]
    _write(folder / "experiment" / f"{name}.yaml", f"# @package _global_\n{title}", {"defaults": defaults, **rest})


def _write(path: Path, head: str, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).replace("${", "\\${")
    with replacing(path) as temporary:
        temporary.write_text(head + text, encoding="utf-8")


def _cautions(study: StudyFolder, winner: Outcome, finished: int) -> list[str]:
    """Return what the comparison with trial 0 does not say of itself."""
    lines = []
    if "test" not in record.read(study.folder(0))["row_fingerprint"]:
        lines.append(
            f"Trial {winner.number} is the best of {finished} on these very rows, so that its lead is flattered; "
            "dataset.split.test_from or dataset.split.test would give rows that nothing was chosen on."
        )
    if not study.plan.settings.confirm:
        lines.append(
            f"Whether its values are better for other seeds, fresh ones say: funrec tune --join {study.path} "
            f"search.confirm={SEEDS_FOR_VARIANTS}."
        )
    return lines


def _confirm(study: StudyFolder, winner: Outcome, live: bool, force: bool) -> str:
    """Run the winner and the configuration as it was with fresh seeds, and return their comparison.

    The runs are ordinary ones, in a folder beside the study's: the seed that chose the winner is not among them. Those
    that are finished are not run again.
    """
    place = study.path.with_name(f"{study.path.name}_confirm")
    place.mkdir(exist_ok=True)
    first, folders = int(study.plan.config["seed"]) + 1, {}
    with locked(place / ".lock_of_study"):
        for name, values in (("start", {}), ("winner", winner.params)):
            asked = [text for text in study.plan.overrides(values) if parse_override(text)[0] != "seed"]
            for seed in range(first, first + study.plan.settings.confirm):
                folder = place / f"{name}_seed{seed}"
                study.run(folder, [*asked, f"seed={seed}"], live, force)
                folders[folder] = name
    return _comparison(folders, place / f"start_seed{first}", "values")


def _comparison(folders: Mapping[Path, str], baseline: Path, column: str) -> str:
    """Return a comparison in which a column of names stands for all the values that runs differ in."""
    found = compare_runs(list(folders), baseline)
    for variant in found.variants:
        variant.settings = {column: folders[variant.runs[0].path]}
    return "\n".join([comparison_tables(found), "", *sentences(found)])


def _which(chosen: Sequence[Outcome]) -> str:
    return f"Trial{'s' * (len(chosen) > 1)} {', '.join(str(outcome.number) for outcome in chosen)}"


def _short_names(keys: Sequence[str]) -> list[str]:
    """Return the last parts of keys, as many as it takes to tell them apart."""
    names = []
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        names.append(next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key))
    return names


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
