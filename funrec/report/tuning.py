"""The report's part on `funrec tune`: how a study went on, and what mattered; read from its `trials.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from funrec.comparison.compare import Comparison
from funrec.report.plots import COLOURS, Figure, plain, short
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

TRIALS = "trials.json"
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"


def studies_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the studies that the runs of a comparison are trials of, a choice each with its figures."""
    folders = dict.fromkeys(run.path.parent for variant in comparison.variants for run in variant.runs)
    choices = []
    for folder in folders:
        study = _read(folder)
        if figures := [figure.to_json() for figure in _figures(study)]:
            choices.append({"name": folder.resolve().name, "figures": figures})
    return choices


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        found = read_json(folder / TRIALS)
    except (OSError, InputError):  # no study, or one that costs no more than its figures
        return {}
    return found if isinstance(found, dict) else {}


def _figures(study: Mapping[str, Any]) -> Iterator[Figure]:
    trials = study.get("trials") or []
    for place, (objective, direction) in enumerate((study.get("objectives") or {}).items()):
        if (figure := _history(objective, direction, place, trials)) is not None:
            yield figure
    if study.get("importance"):
        yield _importance(study["importance"])


def _history(objective: str, direction: str, place: int, trials: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw an objective by trial, and the best so far."""
    finished = [trial for trial in trials if trial["state"] == FINISHED]
    if not finished:
        return None
    numbers = [trial["number"] for trial in finished]
    values = [trial["values"][place] for trial in finished]
    best: list[float] = []
    pick = max if direction == "max" else min
    for value in values:
        best.append(pick([value, *best[-1:]]))
    words = [plain("trial 0, the configuration as it was" if not number else f"trial {number}") for number in numbers]
    details = [
        "<br>".join(plain(f"{key}: {value}") for key, value in trial["params"].items()) if trial["number"] else ""
        for trial in finished
    ]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers,
        "y": [short(value) for value in values],
        "text": [f"{word}<br>{detail}" if detail else word for word, detail in zip(words, details, strict=True)],
        "name": "trial",
        "marker": {
            "size": 9,
            "color": COLOURS[0],
            "symbol": ["diamond" if not number else "circle" for number in numbers],
        },
        "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": numbers,
        "y": [short(value) for value in best],
        "name": "best so far",
        "line": {"color": COLOURS[1], "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
    }
    winner = numbers[values.index(best[-1])]
    start = f", and {values[numbers.index(0)]:.4f} of trial 0, the configuration as it was" if 0 in numbers else ""
    alt = f"{objective} of {len(finished)} trials; the best is {best[-1]:.4f} of trial {winner}{start}."
    others = [(state, sum(trial["state"] == state for trial in trials)) for state in (PRUNED, FAILED)]
    counted = [f"{count} {state}" for state, count in others if count]
    note = "The diamond is the configuration as it was." + (f" Not drawn: {', '.join(counted)}." if counted else "")
    layout = {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": plain(objective)}}}
    return Figure(f"Trials: {objective}", alt, [points, line], layout, note)


def _importance(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the share of every key of the space in what made trials good, a colour per objective."""
    keys = list(dict.fromkeys(key for by_key in shares.values() for key in by_key))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [short(by_key.get(key), 4) for key in keys],
            "y": [plain(key) for key in keys],
            "name": plain(objective),
            "marker": {"color": COLOURS[place % len(COLOURS)]},
            "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
        }
        for place, (objective, by_key) in enumerate(shares.items())
    ]
    most = "; ".join(f"{objective}: {max(by_key, key=lambda key: by_key[key])}" for objective, by_key in shares.items())
    layout = {
        "height": 110 + 26 * len(keys) * max(1, len(shares) // 2),
        "xaxis": {"title": {"text": "share"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed"},
        "showlegend": len(traces) > 1,
    }
    note = "How far the better trials' values are from those of all (PED-ANOVA); a hint, not a test."
    return Figure("What mattered", f"Most important for {most}.", traces, layout, note)
