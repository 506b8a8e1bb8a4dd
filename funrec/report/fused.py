"""Figures of `funrec fuse`: what the fused score gains over each head alone, and what one task costs another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from plotly import graph_objects as go

from funrec.report.figures import (
    GREY,
    Figure,
    Shown,
    axis_range,
    beside,
    colour_of,
    dots,
    error_bars,
    line,
    plain,
    rows_axis,
    vertical,
)
from funrec.runs.formula import read_fusion
from funrec.utils.errors import InputError


def fused_scores(shown: Sequence[Shown]) -> dict[str, list[Figure]]:
    """Return the figures of every run whose heads were fused, by the run's name."""
    found = {}
    for run in shown:
        try:
            fusion = read_fusion(run.run.path)
        except InputError:  # a damaged file costs its figures alone
            continue
        if fusion is not None:
            metrics = list(fusion["front"][0]["report"]) if fusion["front"] else []
            fronts = [_front(fusion, across, up) for across, up in combinations(metrics, 2)]
            found[run.name] = [_differences(fusion), *fronts]
    return found


def _differences(fusion: Mapping[str, Any]) -> Figure:
    """Draw the fused score's metrics less those of each head alone, with intervals."""
    known = [one for one in fusion["differences"] if one["estimate"]["low"] is not None]
    names = list(dict.fromkeys(one["metric"] for one in known))
    traces = [vertical(0, len(names))]
    ends = [0.0]
    for place, head in enumerate(fusion["heads"]):
        mine = [one for one in known if one["head"] == head]
        values = [one["estimate"]["value"] for one in mine]
        intervals = [(one["estimate"]["low"], one["estimate"]["high"]) for one in mine]
        ends += [end for pair in intervals for end in pair]
        rows = [beside(names.index(one["metric"]), place, len(fusion["heads"])) for one in mine]
        words = [f"{plain(one['metric'])} less {plain(head)} alone: {one['mark']}" for one in mine]
        bars = error_bars(values, intervals, colour_of(place))
        traces.append(dots(f"{head} alone", values, rows, colour_of(place), "%{x:+.4f}", text=words, error_x=bars))
    layout = go.Layout(
        height=140 + 24 * len(known),
        xaxis=dict(title="fused score less head alone", range=axis_range(ends)),
        yaxis=rows_axis([plain(name) for name in names]),
    )
    note = f"Reported on {fusion['reported']}; objective {fusion['objective']}. Bars are 95% intervals over users."
    title = f"Fused score {fusion['formula']} less each head alone"
    return Figure(title, " ".join(fusion["verdicts"]), traces, layout, note, is_wide=True)


def _front(fusion: Mapping[str, Any], across: str, up: str) -> Figure:
    """Draw one metric against another along the Pareto front of the search, on the rows of the report."""
    points = fusion["front"]
    words = [plain(point["formula"]) for point in points]
    hover = f"{plain(across)} %{{x:.4f}}<br>{plain(up)} %{{y:.4f}}"
    x, y = ([point["report"][metric] for point in points] for metric in (across, up))
    traces = [line("Pareto front of the search", x, y, GREY, hover, text=words)]
    ends: tuple[list[float], list[float]] = (list(x), list(y))
    chosen = fusion["formula"]
    for place, name in enumerate([*fusion["heads"], chosen]):
        bars: dict[str, Any] = {}
        found = [fusion["table"][name][metric] for metric in (across, up)]
        values = [one["value"] for one in found]
        for axis, (value, low, high) in enumerate((one["value"], one["low"], one["high"]) for one in found):
            ends[axis].append(value)
            if low is not None and name == chosen:
                ends[axis].extend([low, high])
                bars[f"error_{'xy'[axis]}"] = error_bars([value], [(low, high)], colour_of(place))
        label = f"chosen: {name}" if name == chosen else f"{name} alone"
        size = dict(size=12) if name == chosen else {}
        traces.append(dots(label, values[:1], values[1:], colour_of(place), hover, marker=size, **bars))
    layout = go.Layout(
        height=440,
        xaxis=dict(title=plain(across), range=axis_range(ends[0])),
        yaxis=dict(title=plain(up), range=axis_range(ends[1])),
    )
    alt = f"From {words[0]} to {words[-1]}: {across} {x[0]:.4f} to {x[-1]:.4f}, {up} {y[0]:.4f} to {y[-1]:.4f}."
    note = f"What one costs the other, searched on {fusion['searched']}, drawn as measured on {fusion['reported']}."
    return Figure(f"{up} against {across}, by weights", alt, traces, layout, note, is_wide=True)
