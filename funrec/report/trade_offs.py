"""One task against another over all variants, and the variants that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from funrec.report.plots import Figure, plain, short


def trade_offs(
    metrics: Sequence[str],
    variants: Sequence[tuple[str, str, Sequence[Mapping[str, float]]]],
    lower_is_better: set[str],
) -> dict[str, Figure]:
    """Draw one task's metric against another's, for every pair, with the variants that no other beats in both.

    Args:
        metrics: A metric per task.
        variants: Name, colour and every run's metrics.
        lower_is_better: Those of the metrics where less is better.
    """
    found: dict[str, Figure] = {}
    for across, up in combinations(metrics, 2):
        points = [
            (name, colour, [(run[across], run[up]) for run in runs if across in run and up in run])
            for name, colour, runs in variants
        ]
        points = [point for point in points if point[2]]
        if points:
            found[f"{up} against {across}"] = _trade_off(across, up, points, lower_is_better)
    return found


def pareto_front(points: Sequence[tuple[float, float]], signs: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the places of the points that no other is at least as good as in both and better in one, left to right.

    Args:
        points: Two metrics per point.
        signs: 1 where more is better, -1 where less is.
    """
    values = np.asarray(points, np.float64) * signs
    front = [
        place
        for place, value in enumerate(values)
        if not np.any((values >= value).all(axis=1) & (values > value).any(axis=1))
    ]
    return sorted(front, key=lambda place: points[place])


def _trade_off(
    across: str, up: str, points: Sequence[tuple[str, str, list[tuple[float, float]]]], lower_is_better: set[str]
) -> Figure:
    means = [(float(np.mean([x for x, _ in runs])), float(np.mean([y for _, y in runs]))) for _, _, runs in points]
    signs = (-1 if across in lower_is_better else 1, -1 if up in lower_is_better else 1)
    front = pareto_front(means, signs)
    hover = "%{text}<br>" + plain(across) + " %{x:.4f}<br>" + plain(up) + " %{y:.4f}<extra></extra>"
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [short(means[place][0]) for place in front],
            "y": [short(means[place][1]) for place in front],
            "hoverinfo": "skip",
            "line": {"width": 1.5, "dash": "dash", "color": "#94a3b8"},
        }
    ]
    for (name, colour, runs), (x, y) in zip(points, means, strict=True):
        if len(runs) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [short(value) for value, _ in runs],
                    "y": [short(value) for _, value in runs],
                    "text": plain(f"{name}, one seed"),
                    "marker": {"size": 6, "color": colour, "opacity": 0.45},
                    "hovertemplate": hover,
                }
            )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [short(x)],
                "y": [short(y)],
                "text": plain(name),
                "marker": {"size": 13, "color": colour, "line": {"width": 1, "color": "rgba(148,163,184,0.8)"}},
                "hovertemplate": hover,
            }
        )
    layout = {
        "height": 420,
        "showlegend": False,
        "xaxis": {"title": {"text": plain(across)}},
        "yaxis": {"title": {"text": plain(up)}},
    }
    best = ", ".join(points[place][0] for place in front)
    note = (
        "Large points are variants, small ones their seeds. Dashed: the Pareto front, which no variant beats in both."
    )
    title = f"{up} against {across}"
    return Figure(title, f"On the Pareto front of {across} and {up}: {best}.", traces, layout, note, is_wide=True)
