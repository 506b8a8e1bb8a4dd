"""A figure of what calibration changed: predicted over observed, by slice, before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plotly import graph_objects as go

from funrec.report.figures import GREY, Figure, axis_range, beside, colour_of, dots, plain, rows_axis, vertical

#: Slices of fewer rows are left out: their observed rates are noise.
FEWEST_ROWS = 500


def ratios_by_slice(calibration: Mapping[str, Any], split: str) -> Figure | None:
    """Draw every slice's ratio after calibration, and before it in grey; None of a run without calibration."""
    parts = [
        part
        for part in calibration.get("slices") or []
        if part["split"] == split and part["rows"] >= FEWEST_ROWS and part["ratio"][1]
    ]
    if not parts:
        return None
    places = list(dict.fromkeys((part["slice"], part["value"]) for part in parts))
    tasks = list(dict.fromkeys(part["task"] for part in parts))
    traces = [vertical(1, len(places))]
    ends = [1.0]
    for number, task in enumerate(tasks):
        mine = [part for part in parts if part["task"] == task]
        for moment, colour in enumerate((GREY, colour_of(number))):
            known = [part for part in mine if part["ratio"][moment]]
            values = [part["ratio"][moment] for part in known]
            rows = [beside(places.index((part["slice"], part["value"])), number, len(tasks)) for part in known]
            ends += values
            words = [
                f"{plain(task)}, {plain(part['slice'])} {plain(part['value'])}: {part['rows']:,}" for part in known
            ]
            name = f"{task}, before" if moment == 0 else task
            traces.append(dots(name, values, rows, colour, "%{x:.4f}", text=words))
    worst = max(parts, key=lambda part: abs(math.log(part["ratio"][1])))
    layout = go.Layout(
        height=130 + 34 * len(places),
        xaxis=dict(title="predicted / observed", range=axis_range(ends)),
        yaxis=rows_axis([plain(f"{name}: {value}") for name, value in places]),
    )
    alt = f"Farthest from 1: {worst['task']} on {worst['slice']} {worst['value']}, {worst['ratio'][1]:.3f}."
    note = f"Calibration by {calibration['method']}; grey is before. 1 is right in the mean."
    return Figure("Predicted over observed by slice", alt, traces, layout, note, is_wide=True)
