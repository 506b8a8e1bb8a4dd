"""Figures over all runs: one task against another, learning curves, and the trials of a study.

A figure is Plotly's traces and layout with a title, and words for those who cannot see it. Fonts, margins and the
colours of text are set by `page.js`, since they follow the reader's light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from plotly import graph_objects as go

from funrec.comparison.compare import Comparison
from funrec.comparison.measuring import marked
from funrec.comparison.variants import RunRecord, Variant
from funrec.metrics import is_higher_better
from funrec.metrics.sorting import Array, undominated

#: Mid tones that stand out on white and on black; runs of one variant share one.
COLOURS = (
    *("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16", "#f97316", "#64748b"),
    *("#0ea5e9", "#a16207"),
)
GREY = "#94a3b8"

Values = Sequence[Any] | Array

#: Points of a curve; longer histories are thinned.
LONGEST_CURVE = 200

#: Choices of the learning curves: name, column of the history without its task, axis.
MEASURES = (
    ("AUC", "auc", "validation AUC"),
    ("GAUC", "gauc", "validation GAUC"),
    ("RMSE", "rmse", "validation RMSE"),
    ("training loss", "loss", "training loss"),
)


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: What stands above it.
        alt: What it shows, in words and numbers.
        traces: Plotly traces.
        layout: Plotly layout, without the page's part.
        note: What stands below it.
        is_wide: Whether it takes the whole width of the page.
    """

    title: str
    alt: str
    traces: Sequence[Any]
    layout: Any = field(default_factory=go.Layout)
    note: str = ""
    is_wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what `page.js` draws."""
        return {
            "title": self.title,
            "alt": self.alt,
            "data": [trace.to_plotly_json() for trace in self.traces],
            "layout": self.layout.to_plotly_json(),
            "note": self.note,
            "is_wide": self.is_wide,
        }


@dataclass(frozen=True)
class Shown:
    """A run with the name and colour it has on the page, and the rows of its history."""

    name: str
    colour: str
    run: RunRecord
    variant: Variant
    history: Sequence[Mapping[str, Any]]


def plain(text: object) -> str:
    """Return text that Plotly shows as it is: it would take `<b>` for markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(value: float | None, digits: int = 5) -> float | None:
    """Return a number with few digits: a page of fifty runs has a hundred thousand of them."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def colour_of(place: int) -> str:
    """Return the colour of the variant, or of the line, at this place."""
    return COLOURS[place % len(COLOURS)]


def line(name: object, x: Values, y: Iterable[float | None], colour: str, hover: str, **more: Any) -> Any:
    """Return a trace of connected points, or of a single one."""
    style = dict(color=colour, width=2, **more.pop("line", {}))
    mode = "markers" if len(x) == 1 else "lines+markers" if len(x) < 40 else "lines"
    return _scatter(name, x, y, hover, **dict(mode=mode, line=style) | more)


def dots(name: object, x: Values, y: Iterable[float | None], colour: Any, hover: str, **more: Any) -> Any:
    """Return a trace of points."""
    marker = dict(size=9, color=colour) | more.pop("marker", {})
    return _scatter(name, x, y, hover, mode="markers", marker=marker, **more)


def error_bars(values: Sequence[float], ends: Sequence[tuple[float, float]], colour: str) -> dict[str, Any]:
    """Return the bars of points whose 95% intervals have these ends."""
    above = [short(high - value) for value, (_, high) in zip(values, ends, strict=True)]
    below = [short(value - low) for value, (low, _) in zip(values, ends, strict=True)]
    return dict(array=above, arrayminus=below, color=colour, thickness=1.2, width=3)


def _scatter(name: object, x: Values, y: Iterable[float | None], hover: str, **more: Any) -> Any:
    x, y = ([short(value) if isinstance(value, float) else value for value in values] for values in (x, y))
    words = dict(name=plain(name), text=plain(name)) | ({} if "text" not in more else {"text": more.pop("text")})
    return go.Scatter(x=x, y=y, hovertemplate=f"%{{text}}<br>{hover}<extra></extra>", **words, **more)


def axis_range(values: Iterable[float], least: float = 0.0) -> list[float] | None:
    """Return the ends of an axis around the values, at least so wide: a closer view would draw noise as structure."""
    known = list(values)
    if not known or not (width := max(max(known) - min(known), least)):
        return None
    middle = (min(known) + max(known)) / 2
    return [round(middle - 0.56 * width, 6), round(middle + 0.56 * width, 6)]


def beside(row: float, place: int, count: int) -> float:
    """Return how high the dot of a series stands in its row, so that the bars of several do not hide each other."""
    return row + 0.2 * (place - (count - 1) / 2)


def rows_axis(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return a vertical axis with a row per name, the first at the top."""
    return dict(range=[len(names) - 0.4, -0.6], tickvals=list(range(len(names))), ticktext=list(names), **more)


def vertical(at: float, rows: int) -> Any:
    """Return a thin line across all rows."""
    return line("", [at, at], [-0.6, rows - 0.4], GREY, "", mode="lines", hoverinfo="skip", showlegend=False)


def interval(comparison: Comparison, variant: Variant, metric: str) -> tuple[float, float] | None:
    """Return the ends of a metric's 95% interval; None where there is none."""
    found = comparison.measured.get((id(variant), metric))
    return (found.low, found.high) if found is not None and math.isfinite(found.low) else None


def widest_interval(comparison: Comparison, metric: str) -> float:
    """Return the width of the widest 95% interval of a metric; 0 where there is none."""
    ends = (interval(comparison, variant, metric) for variant in comparison.variants)
    return max((found[1] - found[0] for found in ends if found is not None), default=0.0)


# One task against another


def trade_offs(comparison: Comparison) -> dict[str, list[Figure]]:
    """Draw one task's metric against another's for every pair, with the Pareto front of the variants."""
    split, tasks = comparison.split, comparison.variants[0].runs[0].tasks
    known = {metric for variant in comparison.variants for run in variant.runs for metric in run.record["metrics"]}
    candidates = [(marked(f"auc_{task}", split), marked(f"rmse_{task}", split)) for task in tasks]
    metrics = [name for pair in candidates for name in pair if name in known]
    figures = (_trade_off(comparison, across, up) for across, up in combinations(metrics, 2))
    return {figure.title: [figure] for figure in figures if figure is not None}


def pareto_front(points: Sequence[tuple[float, float]], signs: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the places of the points that no other is at least as good as in both and better in one, left to right.

    `signs` are 1 where more of a metric is better, -1 where less is.
    """
    front = np.flatnonzero(undominated(np.asarray(points, np.float64) * signs)).tolist()
    return sorted(front, key=lambda place: points[place])


def _trade_off(comparison: Comparison, across: str, up: str) -> Figure | None:
    names, measured = (across, up), []
    for place, variant in enumerate(comparison.variants):
        runs = [run.record["metrics"] for run in variant.runs]
        if pairs := [[run[name] for name in names] for run in runs if across in run and up in run]:
            measured.append((variant, colour_of(place), np.array(pairs)))
    if sum(len(values) for *_, values in measured) < 2:
        return None
    means = [tuple(values.mean(axis=0)) for *_, values in measured]
    front = pareto_front(means, (1 if is_higher_better(across) else -1, 1 if is_higher_better(up) else -1))
    hover = f"{plain(across)} %{{x:.4f}}<br>{plain(up)} %{{y:.4f}}"
    steps = np.array([means[place] for place in front])
    traces = [line("", steps[:, 0], steps[:, 1], GREY, "", mode="lines", line=dict(dash="dash"), hoverinfo="skip")]
    ends: tuple[list[float], list[float]] = ([], [])
    for (variant, colour, values), mean in zip(measured, means, strict=True):
        bars: dict[str, Any] = {}
        for axis, metric in enumerate(names):
            found = interval(comparison, variant, metric) or (mean[axis], mean[axis])
            ends[axis].extend([*values[:, axis], *found])
            bars[f"error_{'xy'[axis]}"] = error_bars([mean[axis]], [found], colour)
        if len(values) > 1:
            faint = dict(size=6, opacity=0.45)
            traces.append(dots(f"{variant}, one seed", values[:, 0], values[:, 1], colour, hover, marker=faint))
        traces.append(dots(variant, mean[:1], mean[1:], colour, hover, marker=dict(size=12), **bars))
    layout = go.Layout(
        height=440,
        showlegend=False,
        xaxis=dict(title=plain(across), range=axis_range(ends[0])),
        yaxis=dict(title=plain(up), range=axis_range(ends[1])),
    )
    best = ", ".join(str(measured[place][0]) for place in front)
    note = (
        "Large points are variants with the 95% interval of each by itself, small ones their seeds; the differences "
        "above are paired and tell more. Dashed: the Pareto front of the means, which no variant beats in both."
    )
    alt = f"On the Pareto front of {across} and {up}: {best}."
    return Figure(f"{up} against {across}", alt, traces, layout, note, is_wide=True)


# Learning curves


def learning_curves(comparison: Comparison, runs: Sequence[Shown]) -> dict[str, list[Figure]]:
    """Draw what changes by epoch, a figure per task; none of a measure without two epochs in any run."""
    tasks, split = runs[0].run.tasks, comparison.split
    found = {}
    for name, column, axis in MEASURES:
        least = {task: widest_interval(comparison, marked(f"{column}_{task}", split)) for task in tasks}
        figures = [_curves(task, f"{column}_{task}", axis, runs, least[task]) for task in tasks]
        if drawn := [figure for figure in figures if figure is not None]:
            found[name] = drawn
    return found


def _curves(task: str, column: str, axis: str, runs: Sequence[Shown], least: float) -> Figure | None:
    """Draw a column of every run's history, thinly where a variant has several, under their mean."""
    traces: list[Any] = []
    means: list[Any] = []
    ends: list[str] = []
    for variant in dict.fromkeys(shown.variant for shown in runs):
        mine = [shown for shown in runs if shown.variant is variant]
        points = {
            shown.name: {row["epoch"]: row[column] for row in thin(shown.history) if row.get(column) is not None}
            for shown in mine
        }
        points = {name: values for name, values in points.items() if values}
        if not points:
            continue
        colour, hover = mine[0].colour, "epoch %{x}: %{y:.4f}"
        faint = dict(mode="lines", opacity=0.4) if len(points) > 1 else {}
        for name, values in points.items():
            traces.append(line(name, list(values), values.values(), colour, hover, **faint))
        if len(points) > 1 and (shared := sorted(set.intersection(*map(set, points.values())))):
            mean = [float(np.mean([values[epoch] for values in points.values()])) for epoch in shared]
            means.append(line(f"{variant}, mean of {len(points)} seeds", shared, mean, colour, hover))
        ends.append(f"{variant} {np.mean([list(values.values())[-1] for values in points.values()]):.4f}")
    if not any(len(trace.x) > 1 for trace in traces):
        return None
    yaxis = dict(title=plain(axis), range=axis_range((value for trace in traces for value in trace.y), least))
    layout = go.Layout(xaxis=epochs(max(trace.x[-1] for trace in traces)), yaxis=yaxis, showlegend=False)
    notes = ["Strong lines are means over seeds, faint ones their seeds."] if means else []
    notes += [f"The 95% interval at the end is {least:.4f} wide, and the axis at least as much."] if least else []
    alt = f"{axis} by epoch; at the end {', '.join(ends)}."
    return Figure(task, alt, [*traces, *means], layout, " ".join(notes))


def thin(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most `LONGEST_CURVE` rows of a history, evenly spaced."""
    if len(history) <= LONGEST_CURVE:
        return list(history)
    return [history[place] for place in np.linspace(0, len(history) - 1, LONGEST_CURVE).astype(int)]


def epochs(last: int) -> dict[str, Any]:
    """Return an axis with whole epochs alone."""
    step = max(1, math.ceil(last / 8))
    return dict(title="epoch", tick0=step, dtick=step, range=[1 - 0.06 * last, last + 0.06 * last])
