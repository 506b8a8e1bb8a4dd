"""The report's figures, as plain Plotly descriptions, each with a title, and words for those who cannot see it.

Colours, fonts and margins are the page's business (`page.js`), since they follow the reader's light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Mid tones that stand out on white and on black; runs of one variant share one.
COLOURS = (
    *("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16", "#f97316", "#64748b"),
    *("#0ea5e9", "#a16207"),
)
#: From nothing to the full colour: the page's background shines through, be it light or dark.
SHADES = [[0.0, "rgba(59,130,246,0.04)"], [1.0, "rgba(59,130,246,0.72)"]]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: What stands above it.
        alt: What it shows, in words and numbers.
        data: Plotly traces.
        layout: Plotly layout, without the page's part.
        note: What stands below it.
        is_wide: Whether it takes the whole width of the page.
    """

    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    note: str = ""
    is_wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plain(text: object) -> str:
    """Return text that Plotly shows as it is: it would take `<b>` for markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(value: float | None, digits: int = 5) -> float | None:
    """Return a number with few digits: a page of fifty runs has a hundred thousand of them."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def gate_map(gates: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw what each gate gives to each expert in the mean; none where the backbone has no gates."""
    if not gates:
        return None
    experts = list(dict.fromkeys(name for gate in gates for name in gate["experts"]))
    rows, names = [], []
    for gate in gates:
        weights = dict(zip(gate["experts"], gate["weight"], strict=True))
        rows.append([short(weights.get(name), 4) for name in experts])
        names.append(plain(" · ".join(filter(None, [gate["gate"], gate["reader"]]))))
    trace = _heat_map(rows, [plain(name) for name in experts], names, ".2f", (0, max(max(g["weight"]) for g in gates)))
    trace["hovertemplate"] = "gate of %{y}<br>%{x}: %{z:.4f}<extra></extra>"
    peaks = "; ".join(
        f"{gate['reader']} leans on {gate['experts'][int(np.argmax(gate['weight']))]} ({max(gate['weight']):.2f})"
        for gate in gates
    )
    unused = sum(share > 0.99 for gate in gates for share in gate["unused"])
    note = f"{unused} of {sum(len(gate['experts']) for gate in gates)} gate weights are unused in nearly every row."
    layout = {
        "height": 130 + 34 * len(rows),
        "yaxis": {"autorange": "reversed", "showgrid": False},
        "xaxis": {"showgrid": False},
    }
    is_wide = len(experts) > 8
    return Figure("Gate utilisation", f"Mean expert weight by gate: {peaks}.", [trace], layout, note, is_wide)


def matrix_map(diagnosis: Mapping[str, Any]) -> Figure | None:
    """Draw every head's AUC on every task's labels; none where no task is binary."""
    tasks = [str(task) for task in diagnosis.get("tasks") or []]
    if not tasks:
        return None
    auc = diagnosis["auc"]
    names = [plain(task) for task in tasks]
    trace = _heat_map([[short(value, 4) for value in row] for row in auc], names, names, ".4f", (0.5, 1.0))
    trace["hovertemplate"] = "head of %{y}, labels of %{x}: %{z:.4f}<extra></extra>"
    own = ", ".join(
        f"{task} {auc[place][place]:.4f}" for place, task in enumerate(tasks) if auc[place][place] is not None
    )
    layout = {
        "height": 150 + 44 * len(tasks),
        "xaxis": {"title": {"text": "labels"}, "showgrid": False},
        "yaxis": {"title": {"text": "head"}, "autorange": "reversed", "showgrid": False},
    }
    note = "A head should rank its own labels best: compare the cells of a column."
    return Figure(
        "Every head on every task's labels", f"AUC of each head on its own labels: {own}.", [trace], layout, note
    )


def reliability(bins: Mapping[str, Mapping[str, Sequence[float]]], split: str) -> Figure | None:
    """Draw observed rate against predicted probability, a line per task; none if there are no bins."""
    suffix = "" if split == "valid" else f"@{split}"
    chosen = {
        name.partition("@")[0]: value for name, value in bins.items() if f"@{name.partition('@')[2]}" == (suffix or "@")
    }
    traces: list[dict[str, Any]] = []
    worst: list[str] = []
    values: list[float] = []
    for place, (task, found) in enumerate(chosen.items()):
        pairs = [
            (p, o, n) for p, o, n in zip(found["predicted"], found["observed"], found["rows"], strict=True) if o > 0 < p
        ]
        if not pairs:
            continue
        values += [value for p, o, _ in pairs for value in (p, o)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [short(p, 6) for p, _, _ in pairs],
                "y": [short(o, 6) for _, o, _ in pairs],
                "customdata": [int(n) for _, _, n in pairs],
                "name": plain(task),
                "text": plain(task),
                "line": {"color": COLOURS[place % len(COLOURS)], "width": 2},
                "hovertemplate": "%{text}<br>predicted %{x:.4f}, observed %{y:.4f}<br>"
                "%{customdata:,} rows<extra></extra>",
            }
        )
        p, o, _ = max(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1])))
        worst.append(f"{task} predicts {p:.3f} where {o:.3f} is observed")
    if not traces:
        return None
    low, high = min(values), max(values)
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [low, high],
        "y": [low, high],
        "name": "calibrated",
        "hoverinfo": "skip",
        "line": {"dash": "dot", "width": 1, "color": "#94a3b8"},
    }
    # A tick per power of ten, where there are several.
    axis: dict[str, Any] = {"type": "log", "dtick": 1, "tickformat": "~g"} if high > 20 * low else {}
    layout = {
        "xaxis": {**axis, "title": {"text": "predicted probability"}},
        "yaxis": {**axis, "title": {"text": "observed rate"}},
    }
    note = "Bins of equally many rows. On the dotted line a probability means what it says."
    return Figure("Reliability", f"Farthest from the line: {'; '.join(worst)}.", [diagonal, *traces], layout, note)


def slice_dots(slices: Sequence[Mapping[str, Any]], split: str, tasks: Sequence[str]) -> Figure | None:
    """Draw the AUC (RMSE for regression) by slice, a dot per task; none if there are no slices."""
    parts = [part for part in slices if part["split"] == split]
    if not parts:
        return None
    names = [plain(f"{part['slice']}: {part['value']} ({part['rows']:,})") for part in parts]
    traces: list[dict[str, Any]] = []
    lowest: list[str] = []
    for place, task in enumerate(tasks):
        metric = next(
            (name for name in (f"auc_{task}", f"rmse_{task}") if any(name in p["metrics"] for p in parts)), None
        )
        if metric is None:
            continue
        known = [(name, part) for name, part in zip(names, parts, strict=True) if metric in part["metrics"]]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [short(part["metrics"][metric], 4) for _, part in known],
                "y": [name for name, _ in known],
                "name": plain(metric),
                "text": plain(metric),
                "marker": {"size": 10, "color": COLOURS[place % len(COLOURS)], "opacity": 0.9},
                "hovertemplate": "%{y}<br>%{text} %{x:.4f}<extra></extra>",
            }
        )
        worst = min((part for _, part in known), key=lambda part: part["metrics"][metric])
        lowest.append(f"{metric} {worst['metrics'][metric]:.4f} on {worst['slice']} {worst['value']}")
    if not traces:
        return None
    layout = {
        "height": 110 + 27 * len(parts),
        "yaxis": {"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": names},
    }
    return Figure("Slices", f"Lowest: {'; '.join(lowest)}.", traces, layout, "Rows of a slice in brackets.", True)


def _heat_map(
    rows: list[list[float | None]], x: list[str], y: list[str], digits: str, limits: tuple[float, float]
) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "z": rows,
        "x": x,
        "y": y,
        "zmin": limits[0],
        "zmax": limits[1],
        "colorscale": SHADES,
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "texttemplate": f"%{{z:{digits}}}" if len(x) <= 12 else "",
    }
