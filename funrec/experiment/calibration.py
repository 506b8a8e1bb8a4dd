"""Fit a run's calibration on the rows kept for it, and measure what it changes on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from funrec.calibration.base import CALIBRATE, Calibration, Fitted, heads_of
from funrec.config.build import build
from funrec.data.arrays import PreparedData
from funrec.data.slicing import cut
from funrec.experiment.evaluation import Scored, evaluate_scored
from funrec.metrics import Metric
from funrec.metrics.base import sigmoid

if TYPE_CHECKING:
    import polars as pl

#: Slices of fewer rows are not printed.
FEWEST_PRINTED = 500
#: What is shown before and after.
SHOWN = ("ece", "ratio", "log_loss", "auc", "gauc")


def build_calibration(config: Mapping[str, Any]) -> Calibration | None:
    """Build what `calibration` names, if anything."""
    chosen = config.get("calibration")
    return None if chosen is None else build(chosen, Calibration, "calibration")


def calibrate(
    calibration: Calibration, data: PreparedData, scored: Sequence[Scored], folder: Path
) -> tuple[list[Scored], Fitted]:
    """Fit on the split `calibrate`, keep the curves in `folder`, and return all splits with calibrated scores."""
    own = next(split for split in scored if split.name == CALIBRATE)
    fitted = calibration.fit(data.tasks, data.layout, own.rows, own.scores)
    fitted.save(folder)
    return [
        split._replace(
            scores=fitted.apply(split.scores, split.rows),
            uncalibrated=[task for task in split.uncalibrated if task not in fitted.curves],
        )
        for split in scored
    ], fitted


def measure_calibration(
    data: PreparedData,
    before: Sequence[Scored],
    after: Sequence[Scored],
    fitted: Fitted,
    metrics: Sequence[Metric],
    columns: Mapping[str, Mapping[str, pl.Series]],
) -> dict[str, Any]:
    """Return the record's `calibration`: metrics before and after on the reported rows, and by slice.

    `metrics` has for each column its value before (None where scores only ranked) and after; a row of `slices` has
    `split`, `slice`, `value`, `task`, `rows`, and `ratio` before and after (None where no label is 1).
    """
    shown = [metric for metric in metrics if metric.name in SHOWN]
    values = [evaluate_scored(data.tasks, splits, shown).metrics for splits in (before, after)]
    names = [name for name in values[1] if "_given_" not in name and not name.partition("@")[0].endswith("_macro")]
    slices = []
    for raw, done in zip(before, after, strict=True):
        of_split = {name: values_of[raw.name] for name, values_of in columns.items() if raw.name in values_of}
        for part in cut(data, raw.rows, of_split):
            for head, column, inside in heads_of(data.tasks, raw.rows):
                if head not in fitted.curves:
                    continue
                picked = part.rows & inside
                observed = float(np.asarray(raw.rows.labels[:, column])[picked].sum())
                ratio = [
                    None
                    if head in split.uncalibrated or not observed
                    else float(sigmoid(split.scores[head][picked]).sum()) / observed
                    for split in (raw, done)
                ]
                if picked.any():
                    slices.append(
                        {
                            "split": raw.name,
                            "slice": part.name,
                            "value": part.value,
                            "task": head,
                            "rows": int(picked.sum()),
                            "ratio": ratio,
                        }
                    )
    return {
        "method": fitted.method,
        "by": fitted.by,
        "own_curves": {task: len(curves) for task, curves in fitted.by_value.items()},
        "metrics": {name: [values[0].get(name), values[1][name]] for name in names},
        "slices": slices,
    }


def render_calibration(found: Mapping[str, Any]) -> str:
    """Return a record's `calibration` as two tables: metrics, and predicted/observed by slice, before and after."""

    def texts(pair: Sequence[float | None]) -> list[str]:
        return ["" if value is None else f"{value:.4f}" for value in pair]

    own = ", ".join(f"{task} {count}" for task, count in found["own_curves"].items())
    by = f", values of {found['by']} with a curve of their own: {own}" if found["by"] else ""
    splits = {part["split"] for part in found["slices"]}
    leading = ["split", "slice", "value", "task", "rows"] if len(splits) > 1 else ["slice", "value", "task", "rows"]
    rows = [
        [*(part[name] for name in leading), *texts(part["ratio"])]
        for part in found["slices"]
        if part["rows"] >= FEWEST_PRINTED
    ]
    metrics = [[name, *texts(pair)] for name, pair in found["metrics"].items()]
    return "\n".join(
        [
            f"Calibration: {found['method']}{by}",
            tabulate(metrics, ["metric", "before", "after"], "grid", disable_numparse=True),
            f"Predicted/observed by slice of {FEWEST_PRINTED} rows or more",
            tabulate(rows, [*leading, "before", "after"], "grid", disable_numparse=True),
        ]
    )
