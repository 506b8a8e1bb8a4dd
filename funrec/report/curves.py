"""Figures of what changes by epoch: learning curves, task weights, gradient cosines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funrec.report.plots import COLOURS, Figure, plain, short

#: Points of a curve; longer histories are thinned.
LONGEST_CURVE = 200


@dataclass(frozen=True)
class Line:
    """A run's history under a name and in a colour.

    Attributes:
        name: The run.
        variant: Its variant.
        colour: That of its variant.
        history: Rows of `history.parquet`.
    """

    name: str
    variant: str
    colour: str
    history: Sequence[Mapping[str, Any]]


def curves(title: str, column: str, axis: str, lines: Sequence[Line]) -> Figure | None:
    """Draw a column of every run's history by epoch, thinly where a variant has several, under their mean.

    None if no run has it.
    """
    found = {line.name: _points(line, column) for line in lines}
    traces: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    ends: list[str] = []
    for variant in dict.fromkeys(line.variant for line in lines):
        mine = [line for line in lines if line.variant == variant and found[line.name]]
        if not mine:
            continue
        several = len(mine) > 1
        traces += [_curve(line.name, line.colour, found[line.name], is_faint=several) for line in mine]
        if several:
            shared = set.intersection(*(set(found[line.name]) for line in mine))
            mean = {epoch: float(np.mean([found[line.name][epoch] for line in mine])) for epoch in sorted(shared)}
            means += [_curve(f"{variant}, mean of {len(mine)} seeds", mine[0].colour, mean)] if mean else []
        end = float(np.mean([list(found[line.name].values())[-1] for line in mine]))
        ends.append(f"{variant} {end:.4f}")
    if not traces:
        return None
    last = max(trace["x"][-1] for trace in traces)
    note = "Thick lines are means over seeds, thin ones their seeds." if means else ""
    layout = {"xaxis": _epochs(last), "yaxis": {"title": {"text": plain(axis)}}, "showlegend": False}
    return Figure(title, f"{axis} by epoch; at the end {', '.join(ends)}.", [*traces, *means], layout, note)


def _points(line: Line, column: str) -> dict[int, float]:
    return {row["epoch"]: row[column] for row in _thin(line.history) if row.get(column) is not None}


def _curve(name: str, colour: str, points: Mapping[int, float], is_faint: bool = False) -> dict[str, Any]:
    mode = "lines+markers" if len(points) < 40 and not is_faint else "lines"
    return {
        "type": "scatter",
        "mode": mode if len(points) > 1 else "markers",
        "x": list(points),
        "y": [short(value) for value in points.values()],
        "text": plain(name),
        "line": {"color": colour, "width": 1 if is_faint else 2.5},
        **({"opacity": 0.4} if is_faint else {}),
        "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>",
    }


def by_epoch(title: str, columns: Mapping[str, str], axis: str, history: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw columns of a run's history, a line each under the name given; none if the history has none of them."""
    rows = _thin(history)
    lines = [(name, [short(row.get(column)) for row in rows]) for column, name in columns.items()]
    lines = [(name, values) for name, values in lines if any(value is not None for value in values)]
    if not lines:
        return None
    epochs = [row["epoch"] for row in rows]
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(epochs) < 40 else "lines",
            "x": epochs,
            "y": values,
            "name": plain(name),
            "text": plain(name),
            "line": {"color": COLOURS[place % len(COLOURS)], "width": 2},
            "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>",
        }
        for place, (name, values) in enumerate(lines)
    ]
    ends = ", ".join(f"{name} {_last(values)}" for name, values in lines)
    layout = {"xaxis": _epochs(epochs[-1]), "yaxis": {"title": {"text": axis}}}
    return Figure(title, f"{axis} by epoch; at the end {ends}.", traces, layout)


def _thin(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if len(history) <= LONGEST_CURVE:
        return list(history)
    return [history[place] for place in np.linspace(0, len(history) - 1, LONGEST_CURVE).astype(int)]


def _last(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{known[-1]:.4f}" if known else "unknown"


def _epochs(last: int) -> dict[str, Any]:
    """Return an axis with whole epochs alone."""
    step = max(1, math.ceil(last / 8))
    return {"title": {"text": "epoch"}, "tick0": step, "dtick": step, "range": [1 - 0.06 * last, last + 0.06 * last]}
