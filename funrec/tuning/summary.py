"""A study in words: its best trials as a table, what mattered, and the honest comparison with where it began."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from funrec.tuning.progress import duration
from funrec.tuning.results import (
    FAILED,
    FINISHED,
    PRUNED,
    TRIALS_FOR_IMPORTANCE,
    Outcome,
    importance,
    outcomes,
    pareto,
    ranked,
    write_trials,
)
from funrec.tuning.study import StudyFolder
from funrec.tuning.winner import BEST, cautions, compare_with_start, confirm, write_winner
from funrec.utils.errors import InputError

#: Rows of the table: the best, and the configuration as it was.
SHOWN = 10
REASONS_SHOWN = 5


def conclude(study: StudyFolder, live: bool = False, force: bool = False) -> str:
    """Write the winner's configuration and return what there is to say; with `search.confirm` also run fresh seeds.

    Raises:
        InputError: If no trial finished.
    """
    write_trials(study)
    found, settings = outcomes(study), study.plan.settings
    best = ranked(found, settings.signs)
    if not best:
        reasons = next((outcome.reason for outcome in found if outcome.state == FAILED), "no trial was begun")
        raise InputError(f"{study.path}: no trial finished. The first reason: {reasons}.")
    winner, front = best[0], pareto(found, settings.signs)
    parts = [_table(study, best), *_others(found)]
    if len(settings.objectives) > 1:
        parts.append(
            f"Pareto set: {_which(front).lower()}. Trial {winner.number} has the best mean rank over the objectives."
        )
    parts += [*_importance(study, len(best)), "", *_winner(study, winner, front), ""]
    started = any(outcome.number == 0 for outcome in best)
    chosen = [outcome for outcome in (front if len(front) > 1 else [winner]) if outcome.number]
    if not started:
        parts.append("The configuration as it was did not finish, so that there is nothing to compare the winner with.")
    elif not chosen:
        parts.append("No trial did better than the configuration as it was.")
    else:
        parts += [
            f"{_which(chosen)} against trial 0, the configuration as it was:",
            "",
            compare_with_start(study, chosen),
        ]
        parts += cautions(study, winner, len(best))
    if settings.confirm and winner.number and started:
        seeds = f"{settings.confirm} fresh seed{'s' * (settings.confirm > 1)}"
        parts += [
            "",
            f"The winner and the configuration as it was, {seeds} each:",
            "",
            confirm(study, winner, live, force),
        ]
    return "\n".join(parts)


def _table(study: StudyFolder, best: Sequence[Outcome]) -> str:
    shown = list(best[:SHOWN])
    shown += [outcome for outcome in best[SHOWN:] if outcome.number == 0]
    names = _short_names(list(study.plan.space))
    headers = ["trial", *study.plan.settings.objectives, *names, "epochs", "time"]
    rows = [
        [
            str(outcome.number) + (" (start)" if outcome.number == 0 else ""),
            *(f"{value:.4f}" for value in outcome.values),
            *(_value(outcome.params.get(key)) for key in study.plan.space),
            str(outcome.epochs or ""),
            "" if outcome.seconds is None else duration(outcome.seconds),
        ]
        for outcome in shown
    ]
    return tabulate(rows, headers=headers, tablefmt="grid", disable_numparse=True, colalign=["right"] * len(headers))


def _others(found: Sequence[Outcome]) -> list[str]:
    """Return how many trials finished, were pruned and failed, with the reasons of those that failed."""
    counts = {state: [outcome for outcome in found if outcome.state == state] for state in (FINISHED, PRUNED, FAILED)}
    lines = [", ".join(f"{len(of)} {state}" for state, of in counts.items() if of or state == FINISHED) + "."]
    failed = counts[FAILED]
    lines += [f"trial {outcome.number} failed: {outcome.reason}" for outcome in failed[:REASONS_SHOWN]]
    if len(failed) > REASONS_SHOWN:
        lines.append(f"... and {len(failed) - REASONS_SHOWN} more: their folders say why.")
    return lines


def _importance(study: StudyFolder, finished: int) -> list[str]:
    shares = importance(study)
    if not shares:
        return [f"What mattered is anybody's guess with fewer than {TRIALS_FOR_IMPORTANCE} finished trials."]
    names = dict(zip(study.plan.space, _short_names(list(study.plan.space)), strict=True))
    lines = []
    for objective, by_key in shares.items():
        listed = ", ".join(f"{names[key]} {share:.0%}" for key, share in by_key.items())
        of = f" for {objective}" if len(shares) > 1 else ""
        lines.append(f"What mattered{of} (PED-ANOVA over {finished} trials): {listed}.")
    return lines


def _winner(study: StudyFolder, winner: Outcome, front: Sequence[Outcome]) -> list[str]:
    folder = write_winner(study, winner)
    if len(front) > 1:
        for outcome in front:
            write_winner(study, outcome, f"trial_{outcome.number}")
    overrides = study.plan.overrides(winner.params if winner.number else {})
    lines = [
        f"Best: trial {winner.number}: {' '.join(shlex.quote(override) for override in overrides) or 'the defaults'}",
        f"Run it again: funrec run --config-dir {shlex.quote(str(folder))} experiment={BEST}",
    ]
    if len(front) > 1:
        lines.append(f"or another of the Pareto set: experiment=trial_{front[-1].number}, and so on.")
    return lines


def _which(chosen: Sequence[Outcome]) -> str:
    numbers = ", ".join(str(outcome.number) for outcome in chosen)
    return f"Trial {numbers}" if len(chosen) == 1 else f"Trials {numbers}"


def _short_names(keys: Sequence[str]) -> list[str]:
    """Return the last parts of keys, as many as it takes to tell them apart."""
    names = []
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[-count:])
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        names.append(name)
    return names


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
