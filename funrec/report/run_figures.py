"""Figures of a single run: heads against labels, reliability, task weights, gradient cosines, gates, slices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from plotly import graph_objects as go

from funrec.comparison.compare import Comparison
from funrec.comparison.measuring import marked
from funrec.report.calibrated import ratios_by_slice
from funrec.report.figures import (
    GREY,
    Figure,
    Shown,
    axis_range,
    beside,
    colour_of,
    dots,
    epochs,
    error_bars,
    line,
    plain,
    rows_axis,
    short,
    thin,
)

#: From nothing to the full colour: the page's background shines through, be it light or dark.
SHADES = [[0.0, "rgba(59,130,246,0.04)"], [1.0, "rgba(59,130,246,0.72)"]]

#: Slices of fewer rows are drawn grey.
FEW_ROWS = 500
#: Gates whose weights differ by less are as good as constant, and are told in words.
LEAST_GATE_SPREAD = 0.01
#: Standard errors on either side of a 95% interval.
NORMAL_95 = 1.96


def figures_of_run(comparison: Comparison, shown: Shown) -> list[Figure]:
    """Return the figures of a run; those that would show nothing but constants are left out, see `constants_of`."""
    run, split = shown.run, comparison.split
    candidates = (
        matrix_map(run.record.get("diagnosis") or {}),
        reliability(run.record.get("reliability") or {}, split),
        ratios_by_slice(run.record.get("calibration") or {}, split),
        by_epoch("Task weights", _weights(run.tasks), "weight in the loss", shown.history, {"rangemode": "tozero"}),
        by_epoch("Gradient cosines", _cosines(run.tasks), "gradient cosine", shown.history, {"range": [-1.05, 1.05]}),
        gate_map(run.record.get("gates") or []),
        slice_dots(comparison, shown, split),
    )
    return [figure for figure in candidates if figure is not None]


def constants_of(shown: Shown) -> Iterator[tuple[str, str]]:
    """Yield in words what is the same in every epoch, or for every expert, and has no figure."""
    for name, columns in (("task weights", _weights(shown.run.tasks)), ("gradient cosines", _cosines(shown.run.tasks))):
        known = {
            title: {row[column] for row in shown.history if row.get(column) is not None}
            for column, title in columns.items()
        }
        known = {title: values for title, values in known.items() if values}
        if known and all(len(values) == 1 for values in known.values()):
            listed = ", ".join(f"{title} {next(iter(values)):.4f}" for title, values in known.items())
            yield name, f"{listed}, in every epoch"
    gates = shown.run.record.get("gates") or []
    if gates and not _gates_differ(gates):
        low, high = (pick(weight for gate in gates for weight in gate["weight"]) for pick in (min, max))
        yield "gates", f"every mean weight is between {low:.3f} and {high:.3f}"


def _weights(tasks: Sequence[str]) -> dict[str, str]:
    return {f"weight_{task}": task for task in tasks}


def _cosines(tasks: Sequence[str]) -> dict[str, str]:
    return {f"gradient_cosine_{one}_{other}": f"{one} · {other}" for one, other in combinations(tasks, 2)}


def by_epoch(
    title: str, columns: Mapping[str, str], axis: str, history: Sequence[Mapping[str, Any]], yaxis: Mapping[str, Any]
) -> Figure | None:
    """Draw columns of a history, a line each under the name given; None if no line has two values that differ."""
    rows = thin(history)
    lines = {name: [row.get(column) for row in rows] for column, name in columns.items()}
    lines = {name: values for name, values in lines.items() if any(value is not None for value in values)}
    if not any(len({value for value in values if value is not None}) > 1 for values in lines.values()):
        return None
    numbers = [row["epoch"] for row in rows]
    traces = [
        line(name, numbers, values, colour_of(place), "epoch %{x}: %{y:.4f}")
        for place, (name, values) in enumerate(lines.items())
    ]
    last = {name: [value for value in values if value is not None][-1] for name, values in lines.items()}
    ends = ", ".join(f"{name} {value:.4f}" for name, value in last.items())
    layout = go.Layout(xaxis=epochs(numbers[-1]), yaxis=dict(title=axis, **yaxis))
    return Figure(title, f"{axis} by epoch; at the end {ends}.", traces, layout)


def gate_map(gates: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw what each gate gives to each expert in the mean; None where there are no gates, or all weights are alike."""
    if not gates or not _gates_differ(gates):
        return None
    experts = list(dict.fromkeys(name for gate in gates for name in gate["experts"]))
    rows, names = [], []
    for gate in gates:
        weights = dict(zip(gate["experts"], gate["weight"], strict=True))
        rows.append([short(weights.get(name), 4) for name in experts])
        names.append(plain(" · ".join(filter(None, [gate["gate"], gate["reader"]]))))
    # An equal weight is at most half the full colour.
    highest = max(*(weight for gate in gates for weight in gate["weight"]), 2 / len(experts))
    hover = "gate of %{y}<br>%{x}: %{z:.4f}<extra></extra>"
    trace = _heat_map(rows, [plain(name) for name in experts], names, ".2f", (0, highest), hover)
    peaks = "; ".join(
        f"{gate['reader']} leans on {gate['experts'][int(np.argmax(gate['weight']))]} ({max(gate['weight']):.2f})"
        for gate in gates
    )
    unused = sum(part > 0.99 for gate in gates for part in gate["unused"])
    note = f"{unused} of {sum(len(gate['experts']) for gate in gates)} gate weights are unused in nearly every row."
    layout = _heat_layout(130 + 34 * len(rows))
    is_wide = len(experts) > 8
    return Figure("Gate utilisation", f"Mean expert weight by gate: {peaks}.", [trace], layout, note, is_wide)


def _gates_differ(gates: Sequence[Mapping[str, Any]]) -> bool:
    return any(max(gate["weight"]) - min(gate["weight"]) >= LEAST_GATE_SPREAD for gate in gates)


def matrix_map(diagnosis: Mapping[str, Any]) -> Figure | None:
    """Draw every head's AUC on every task's labels; None with fewer than two binary tasks."""
    tasks = [str(task) for task in diagnosis.get("tasks") or []]
    if len(tasks) < 2:
        return None
    auc, names = diagnosis["auc"], [plain(task) for task in tasks]
    hover = "head of %{y}, labels of %{x}: %{z:.4f}<extra></extra>"
    cells = [[short(value, 4) for value in row] for row in auc]
    trace = _heat_map(cells, names, names, ".4f", (0.5, 1.0), hover)
    own = ", ".join(
        f"{task} {auc[place][place]:.4f}" for place, task in enumerate(tasks) if auc[place][place] is not None
    )
    layout = _heat_layout(150 + 44 * len(tasks), "labels", "head")
    note = "A head should rank its own labels best: compare the cells of a column."
    alt = f"AUC of each head on its own labels: {own}."
    return Figure("Every head on every task's labels", alt, [trace], layout, note)


def reliability(bins: Mapping[str, Mapping[str, Sequence[float]]], split: str) -> Figure | None:
    """Draw observed rate against predicted probability with 95% intervals, a line per task; None without bins."""
    traces: list[Any] = []
    worst: list[str] = []
    values: list[float] = []
    chosen = {
        name.partition("@")[0]: found for name, found in bins.items() if name == marked(name.partition("@")[0], split)
    }
    for place, (task, found) in enumerate(chosen.items()):
        triples = zip(found["predicted"], found["observed"], found["rows"], strict=True)
        points = [(p, o, n) for p, o, n in triples if o > 0 < p]
        if not points:
            continue
        predicted, observed, rows = zip(*points, strict=True)
        intervals = [_wilson(o, n) for o, n in zip(observed, rows, strict=True)]
        values += [*predicted, *(end for ends in intervals for end in ends)]
        hover = "predicted %{x:.4f}, observed %{y:.4f}<br>%{customdata:,} rows"
        bars = error_bars(observed, intervals, colour_of(place))
        traces.append(line(task, predicted, observed, colour_of(place), hover, error_y=bars, customdata=rows))
        p, o, _ = max(points, key=lambda point: abs(math.log(point[0] / point[1])))
        worst.append(f"{task} predicts {p:.3f} where {o:.3f} is observed")
    if not traces:
        return None
    ends = [min(values), max(values)]
    diagonal = line("calibrated", ends, ends, GREY, "", mode="lines", line=dict(dash="dot"), hoverinfo="skip")
    # A tick per power of ten, where there are several.
    axis: dict[str, Any] = dict(type="log", dtick=1, tickformat="~g") if ends[1] > 20 * ends[0] else {}
    layout = go.Layout(xaxis=dict(title="predicted probability", **axis), yaxis=dict(title="observed rate", **axis))
    note = (
        "Bins of equally many rows, with 95% intervals over rows. On the dotted line a probability means what it says."
    )
    return Figure("Reliability", f"Farthest from the line: {'; '.join(worst)}.", [diagonal, *traces], layout, note)


def _wilson(rate: float, rows: float) -> tuple[float, float]:
    """Return the ends of a rate's 95% interval (Wilson, Journal of the American Statistical Association 22, 1927)."""
    share = NORMAL_95**2 / rows
    middle = (rate + share / 2) / (1 + share)
    reach = math.sqrt(rate * (1 - rate) * share + share**2 / 4) / (1 + share)
    return min(middle - reach, rate), max(middle + reach, rate)


def slice_dots(comparison: Comparison, shown: Shown, split: str) -> Figure | None:
    """Draw the AUC (RMSE for regression) by slice, a dot per task; None if there are no slices."""
    parts = [part for part in shown.run.record.get("slices") or [] if part["split"] == split]
    kinds = dict.fromkeys(part["slice"] for part in parts)
    whole = max((sum(part["rows"] for part in parts if part["slice"] == kind) for kind in kinds), default=0)
    traces: list[Any] = []
    lowest: list[str] = []
    ends: list[float] = []
    for place, task in enumerate(shown.run.tasks):
        candidates = (f"auc_{task}", f"rmse_{task}")
        metric = next((name for name in candidates if any(name in part["metrics"] for part in parts)), None)
        if metric is None:
            continue
        known = [part for part in parts if metric in part["metrics"]]
        found = comparison.measured.get((id(shown.variant), marked(metric, split)))
        error = found.standard_error if found is not None and math.isfinite(found.standard_error) else 0.0
        highest = 1.0 if metric.startswith("auc") else math.inf
        values = [part["metrics"][metric] for part in known]
        reaches = [NORMAL_95 * error * math.sqrt(whole / part["rows"]) for part in known]
        intervals = [(max(v - r, 0.0), min(v + r, highest)) for v, r in zip(values, reaches, strict=True)]
        # The bars of small slices may leave the figure, their points may not.
        large = [pair for part, pair in zip(known, intervals, strict=True) if part["rows"] >= FEW_ROWS]
        ends += [*values, *(end for pair in large for end in pair)]
        places = [beside(parts.index(part), place, len(shown.run.tasks)) for part in known]
        words = [f"{plain(_slice_name(part))}<br>{plain(metric)}" for part in known]
        colours = [GREY if part["rows"] < FEW_ROWS else colour_of(place) for part in known]
        bars = error_bars(values, intervals, colour_of(place))
        traces.append(dots(metric, values, places, colours, "%{x:.4f}", text=words, error_x=bars))
        pick = min if metric.startswith("auc") else max
        worst = pick(known, key=lambda part: part["metrics"][metric])
        lowest.append(f"{metric} {worst['metrics'][metric]:.4f} on {worst['slice']} {worst['value']}")
    if not traces:
        return None
    names = [plain(_slice_name(part)) for part in parts]
    for place, part in enumerate(parts):
        if part["rows"] < FEW_ROWS:
            names[place] = f'<span style="color:{GREY}">{names[place]}</span>'
    layout = go.Layout(
        height=110 + 34 * len(parts),
        xaxis_range=axis_range(ends),
        yaxis=rows_axis(names, showgrid=False),
    )
    note = (
        f"Rows of a slice in brackets; grey: fewer than {FEW_ROWS}. Bars are rough 95% intervals: that of all rows, "
        "widened for a slice's number of rows."
    )
    return Figure("Slices", f"Worst: {'; '.join(lowest)}.", traces, layout, note, is_wide=True)


def _slice_name(part: Mapping[str, Any]) -> str:
    return f"{part['slice']}: {part['value']} ({part['rows']:,})"


def _heat_map(
    rows: list[list[float | None]], x: list[str], y: list[str], digits: str, limits: tuple[float, float], hover: str
) -> Any:
    return go.Heatmap(
        z=rows,
        x=x,
        y=y,
        zmin=limits[0],
        zmax=limits[1],
        colorscale=SHADES,
        showscale=False,
        xgap=3,
        ygap=3,
        texttemplate=f"%{{z:{digits}}}" if len(x) <= 12 else "",
        hovertemplate=hover,
    )


def _heat_layout(height: int, x: str | None = None, y: str | None = None) -> Any:
    xaxis, yaxis = dict(title=x, showgrid=False), dict(title=y, showgrid=False, autorange="reversed")
    return go.Layout(height=height, xaxis=xaxis, yaxis=yaxis)
