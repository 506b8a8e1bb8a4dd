"""Figures of `funrec tune`: how a study's objective went by trial, and which keys mattered, from its `trials.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly import graph_objects as go

from funrec.comparison.compare import Comparison
from funrec.report.figures import Figure, axis_range, colour_of, dots, line, plain, short, widest_interval
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

TRIALS = "trials.json"
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"


def studies(comparison: Comparison) -> dict[str, list[Figure]]:
    """Return by name the figures of the studies that the runs of a comparison are trials of."""
    found = {}
    for folder in dict.fromkeys(run.path.parent for variant in comparison.variants for run in variant.runs):
        study = _read(folder)
        objectives = (study.get("objectives") or {}).items()
        trials = [trial for trial in study.get("trials") or [] if trial["state"] == FINISHED]
        figures = []
        if trials:
            states = [trial["state"] for trial in study["trials"]]
            others = [f"{states.count(state)} {state}" for state in (PRUNED, FAILED) if state in states]
            for place, (objective, direction) in enumerate(objectives):
                values = [trial["values"][place] for trial in trials]
                least = widest_interval(comparison, objective)
                figures.append(_history(objective, direction, trials, values, others, least))
        importance = study.get("importance") or {}
        if len({key for by_key in importance.values() for key in by_key}) > 1:
            figures.append(_importance(importance))
        if figures:
            found[folder.resolve().name] = figures
    return found


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        found = read_json(folder / TRIALS)
    except (OSError, InputError):  # no study, or a damaged file, which costs its figures alone
        return {}
    return found if isinstance(found, dict) else {}


def _history(
    objective: str,
    direction: str,
    trials: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    others: Sequence[str],
    least: float,
) -> Figure:
    """Draw an objective by trial, and the best so far."""
    numbers = [trial["number"] for trial in trials]
    pick = max if direction == "max" else min
    best = [pick(values[: place + 1]) for place in range(len(values))]
    texts = []
    for trial in trials:
        name = f"trial {trial['number']}" if trial["number"] else "trial 0, the configuration as it was"
        params = [f"{key}: {value}" for key, value in trial["params"].items()] if trial["number"] else []
        texts.append("<br>".join(plain(line) for line in [name, *params]))
    marker = dict(symbol=["circle" if number else "diamond" for number in numbers])
    points = dots("trial", numbers, values, colour_of(0), "%{y:.4f}", text=texts, marker=marker)
    steps = dict(mode="lines", line=dict(shape="hv"), hoverinfo="skip")
    so_far = line("best so far", numbers, best, colour_of(1), "", **steps)
    winner = numbers[values.index(best[-1])]
    start = f", and {values[numbers.index(0)]:.4f} of trial 0, the configuration as it was" if 0 in numbers else ""
    alt = f"{objective} of {len(trials)} trials; the best is {best[-1]:.4f} of trial {winner}{start}."
    note = "The diamond is the configuration as it was." + (f" Not drawn: {', '.join(others)}." if others else "")
    note += f" One trial's 95% interval is up to {least:.4f} wide." if least else ""
    layout = go.Layout(xaxis_title="trial", yaxis=dict(title=plain(objective), range=axis_range(values, least)))
    return Figure(f"Trials: {objective}", alt, [points, so_far], layout, note)


def _importance(importance: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw how much of what made trials good each key of the space explains, a colour per objective."""
    keys = list(dict.fromkeys(key for by_key in importance.values() for key in by_key))
    traces = [
        go.Bar(
            orientation="h",
            x=[short(by_key.get(key), 4) for key in keys],
            y=[plain(key) for key in keys],
            name=plain(objective),
            marker_color=colour_of(place),
            hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        )
        for place, (objective, by_key) in enumerate(importance.items())
    ]
    most = "; ".join(f"{objective}: {max(by_key, key=by_key.__getitem__)}" for objective, by_key in importance.items())
    layout = go.Layout(
        height=110 + 26 * len(keys) * max(1, len(importance) // 2),
        xaxis=dict(title="importance", tickformat=".0%", range=[0, 1]),
        yaxis_autorange="reversed",
        showlegend=len(traces) > 1,
    )
    note = "How far the better trials' values are from those of all (PED-ANOVA); a hint, not a test."
    return Figure("What mattered", f"Most important for {most}.", traces, layout, note)
