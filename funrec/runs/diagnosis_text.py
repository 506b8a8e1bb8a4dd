"""A run's diagnosis and slices as printed tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from funrec.metrics import is_count, table_columns
from funrec.runs.tables import render

NOT_RECORDED = "This run's record has none: it was made before runs were diagnosed."


def render_diagnosis(record: Mapping[str, Any]) -> str:
    """Return the head-by-label matrix, the warnings, and random beside standard exposure if there is any."""
    diagnosis = record.get("diagnosis")
    if not diagnosis:
        return NOT_RECORDED
    tasks = list(diagnosis["tasks"])
    rows = [
        [task, *("" if value is None else f"{value:.4f}" for value in values)]
        for task, values in zip(tasks, diagnosis["auc"], strict=True)
    ]
    parts = ["AUC of every head (row) on every task's labels (column)", _grid(["head", *tasks], rows)] if tasks else []
    findings = diagnosis["findings"]
    parts += [f"Warning: {finding['message']}" for finding in findings] or ["No warnings."]
    return "\n".join([*parts, *_exposures(record["metrics"])])


def selection_note(record: Mapping[str, Any]) -> str:
    """Return a line on the rows that chose what they report, and on those that did not; empty if nothing was chosen."""
    split = record.get("selected_on")
    if not split:
        return ""
    others = [name for name in record["row_fingerprint"] if name != split]
    if others:
        return f"Selected on {split}, which is a little flattered; nothing was chosen on {' and '.join(others)}."
    return (
        f"Selected on {split}, the rows reported, and so a little flattered: dataset.split.test_from or "
        "dataset.split.test hold others back."
    )


def render_slices(record: Mapping[str, Any]) -> str:
    """Return the default table's metrics by slice, without the macros; blank where a slice has none."""
    slices = record.get("slices")
    if slices is None:
        return NOT_RECORDED
    rows = [
        {
            "split": part["split"],
            "slice": part["slice"],
            "value": part["value"],
            "rows": part["rows"],
            **{name: value for name, value in part["metrics"].items() if not is_count(name)},
        }
        for part in slices
    ]
    if len({part["split"] for part in slices}) == 1:
        rows = [{name: value for name, value in row.items() if name != "split"} for row in rows]
    leading = [name for name in ("split", "slice", "value", "rows") if any(name in row for row in rows)]
    metrics = table_columns({name for row in rows for name in row} - set(leading))
    return render(rows, columns=[*leading, *metrics])


def _exposures(metrics: Mapping[str, float]) -> list[str]:
    """Return the table's metrics on randomly exposed rows beside those on standard ones, and their difference."""
    pairs = [(name, f"{name}@random") for name in table_columns(metrics) if f"{name}@random" in metrics]
    rows = [
        [name, f"{metrics[name]:.4f}", f"{metrics[other]:.4f}", f"{metrics[other] - metrics[name]:+.4f}"]
        for name, other in pairs
        if not is_count(name)
    ]
    if not rows:
        return []
    return ["Standard exposure and random exposure", _grid(["metric", "standard", "random", "difference"], rows)]


def _grid(headers: list[str], rows: list[list[str]]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt="grid", disable_numparse=True, colalign=align)
