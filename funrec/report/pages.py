"""What the report's page draws, from records and histories: figures by section and choice, configurations, versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from funrec.comparison.compare import Comparison
from funrec.comparison.measuring import TEST, VALID, marked, split_of
from funrec.comparison.variants import RunRecord, Variant
from funrec.report.curves import Line, by_epoch, curves
from funrec.report.plots import COLOURS, Figure, gate_map, matrix_map, reliability, slice_dots
from funrec.report.trade_offs import trade_offs
from funrec.report.tuning import studies_of
from funrec.runs import record as records
from funrec.utils.errors import InputError

LOWER_IS_BETTER = ("rmse_", "log_loss_", "ece_")

#: Choices of the learning curves: name, column of the history without its task, axis.
MEASURES = (
    ("AUC", "auc", "validation AUC"),
    ("GAUC", "gauc", "validation GAUC"),
    ("RMSE", "rmse", "validation RMSE"),
    ("training loss", "loss", "training loss"),
)


def figures_of(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Return the figures by section: a list of choices, each with its `name` and `figures`."""
    named = list(_named(comparison))
    tasks = named[0][1].tasks
    split = measured_split(comparison)
    variants = [
        (str(variant), _colour(place), [run.record["metrics"] for run in variant.runs])
        for place, variant in enumerate(comparison.variants)
    ]
    metrics = [
        next(
            (
                name
                for name in (marked(f"auc_{task}", split), marked(f"rmse_{task}", split))
                if _is_known(variants, name)
            ),
            "",
        )
        for task in tasks
    ]
    metrics = [metric for metric in metrics if metric]
    trades = trade_offs(metrics, variants, {metric for metric in metrics if is_lower_better(metric)})
    lines = [
        Line(name, str(variant), _colour(comparison.variants.index(variant)), _history(run))
        for name, run, variant in named
    ]
    found_curves = [
        {
            "name": name,
            "figures": [
                figure.to_json() for task in tasks if (figure := curves(task, f"{column}_{task}", axis, lines))
            ],
        }
        for name, column, axis in MEASURES
    ]
    by_run = [
        {"name": line.name, "figures": [figure.to_json() for figure in _figures_of_run(run, line.history, split)]}
        for line, (_, run, _) in zip(lines, named, strict=True)
    ]
    return {
        "trade": [{"name": name, "figures": [figure.to_json()]} for name, figure in trades.items()],
        "tuning": studies_of(comparison),
        "curves": [choice for choice in found_curves if choice["figures"]],
        "run": by_run,
    }


def runs_of(comparison: Comparison) -> dict[str, Any]:
    """Return what is told of every run in words.

    `runs` has for each its folder, findings, versions, and the places of its configuration's lines in `lines`, which
    most runs share; `common` says of each line whether all do. `legend` has the variants' colours.
    """
    named = list(_named(comparison))
    places: dict[str, int] = {}
    runs: list[dict[str, Any]] = []
    for name, run, _ in named:
        mine = [places.setdefault(line, len(places)) for line in _flatten(run.record["config"])]
        diagnosis = run.record.get("diagnosis") or {}
        runs.append(
            {
                "name": name,
                "folder": str(run.path),
                "findings": [finding["message"] for finding in diagnosis.get("findings", [])],
                "is_diagnosed": bool(diagnosis),
                "facts": dict(_facts(run.record)),
                "config": mine,
            }
        )
    holders = [0] * len(places)
    for described in runs:
        for place in described["config"]:
            holders[place] += 1
    legend = [{"name": str(variant), "colour": _colour(place)} for place, variant in enumerate(comparison.variants)]
    return {
        "runs": runs,
        "lines": list(places),
        "common": [count == len(runs) for count in holders],
        "legend": legend,
    }


def measured_split(comparison: Comparison) -> str:
    """Return the split that the comparison shows."""
    return TEST if any(split_of(metric) == TEST for metric in comparison.metrics) else VALID


def is_lower_better(metric: str) -> bool:
    """Whether less of a metric is better."""
    return metric.startswith(LOWER_IS_BETTER)


def _figures_of_run(run: RunRecord, history: Sequence[Mapping[str, Any]], split: str) -> Iterator[Figure]:
    diagnosis = run.record.get("diagnosis") or {}
    slices = run.record.get("slices") or []
    weights = {f"weight_{task}": task for task in run.tasks}
    cosines = {f"gradient_cosine_{one}_{other}": f"{one} · {other}" for one, other in combinations(run.tasks, 2)}
    candidates = (
        matrix_map(diagnosis),
        reliability(run.record.get("reliability") or {}, split),
        by_epoch("Task weights", weights, "weight in the loss", history),
        by_epoch("Gradient cosines", cosines, "gradient cosine", history),
        gate_map(run.record.get("gates") or []),
        slice_dots(slices, split, run.tasks),
    )
    return (figure for figure in candidates if figure is not None)


def _named(comparison: Comparison) -> Iterator[tuple[str, RunRecord, Variant]]:
    """Yield every run with a name of its own."""
    for variant in comparison.variants:
        for run in variant.runs:
            yield f"{variant}, seed {run.record.get('seed')}", run, variant


def _history(run: RunRecord) -> list[dict[str, Any]]:
    try:
        return records.read_history(run.path)
    except InputError:  # popularity has none, and a damaged one costs no more than its curves
        return []


def _is_known(variants: Sequence[tuple[str, str, Sequence[Mapping[str, float]]]], metric: str) -> bool:
    return any(metric in run for _, _, runs in variants for run in runs)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("started", "finished", "git_commit", "source_hash", "data_fingerprint", "best_epoch", "selected_on"):
        if record.get(name) is not None:
            yield name.replace("_", " "), str(record[name])
    if record.get("rows_per_second"):
        yield "training speed", f"{record['rows_per_second']:,.0f} rows/s"
    if record.get("seconds"):
        yield "seconds", ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record["seconds"].items())
    if record.get("overrides"):
        yield "overrides", " ".join(map(str, record["overrides"]))
    for name, version in (record.get("versions") or {}).items():
        yield str(name), str(version)


def _flatten(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield f"{prefix}: {json.dumps(value, ensure_ascii=False)}"
