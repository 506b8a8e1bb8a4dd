"""`funrec fuse`: search a formula on some rows of a run, report it on others, keep it with the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from funrec.comparison.significance import Estimate, Measured, estimate, mark
from funrec.fusion.objective import Gauge, Objective, named
from funrec.fusion.rows import Part, RunRows
from funrec.fusion.search import KINDS, Trial, pareto_front, search
from funrec.metrics import build_metrics
from funrec.metrics.sorting import Array
from funrec.runs.formula import FUSION, Formula, columns_of, parse_formula
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import to_plain, write_json

OBJECTIVE = "objective"


@dataclass(frozen=True)
class Difference:
    """How the fused score differs from a head alone in a metric, on the rows of the report."""

    head: str
    metric: str
    estimate: Estimate

    @property
    def mark(self) -> str:
        """`better`, `worse` or `cannot tell`, at 95%."""
        return mark(self.estimate.value, self.estimate.p_value, higher_is_better=True)


@dataclass(frozen=True)
class Fused:
    """A fused score and how it does.

    Attributes:
        objective: What was asked for.
        formula: The formula chosen on the rows of the search.
        searched, reported: What the rows were, in words, with their numbers.
        trials: Number of formulas tried.
        table: By score (formulas, then heads alone), its metrics on the rows of the report with their intervals.
        differences: From each head alone.
        best_heads: By metric, the head that is best at it on the rows of the search.
        front: The Pareto front of the search: formula, shares, metrics there and on the rows of the report.
    """

    objective: str
    formula: str
    searched: str
    reported: str
    trials: int
    table: dict[str, dict[str, Estimate]]
    differences: list[Difference]
    best_heads: dict[str, str]
    front: list[dict[str, Any]]

    def verdicts(self) -> list[str]:
        """Return a sentence per metric: whether the fused score beats the head that is best at it."""
        lines = []
        for metric, head in self.best_heads.items():
            one = next(each for each in self.differences if (each.head, each.metric) == (head, metric))
            found = one.estimate
            words = {"better": "beats", "worse": "loses to", "cannot tell": "cannot be told from"}[one.mark]
            lines.append(
                f"{metric}: the fused score {words} {head} alone, the best head for it "
                f"({found.value:+.4f}, 95% {found.low:+.4f} to {found.high:+.4f})."
            )
        return lines


def fuse(
    run: str | Path,
    objective: str,
    heads: Sequence[str] | None = None,
    kinds: Sequence[str] = KINDS,
    trials: int = 200,
    seed: int = 0,
    formula: str | None = None,
) -> Fused:
    """Search one score from a run's heads, write it to the run's `fusion.json`, and return how it does.

    Args:
        run: The folder of a finished run.
        objective: A sum of ranking metrics, such as `gauc_is_click + 2*gauc_is_like`.
        heads: The heads to weigh; by default the tasks.
        kinds: Of `funrec.fusion.search.KINDS`.
        trials: Formulas to try of each kind.
        seed: Of the search, and of which users are held out of it.
        formula: A formula of your own, in place of the search.

    Raises:
        InputError: If an argument is not what it should be, or the run has no readable predictions.
    """
    folder = Path(run)
    rows = RunRows(folder, seed)
    aim = Objective(objective, rows.tasks, build_metrics(rows.record["config"].get("metrics") or {}))
    asked = {head: rows.kinds[head] for head in _check_heads(rows, heads)}
    if trials < 10:
        raise InputError(f"--trials should be at least 10. Received: {trials}.")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(
                f"--kinds should be of {', '.join(KINDS)}. Received: {kind}.{did_you_mean(kind, list(KINDS))}"
            )
    own = None if formula is None else parse_formula(formula, rows.columns, "--formula")
    searched, reported = rows.parts
    found = [] if own is not None else search(aim, searched, asked, kinds, trials, seed)
    best = {
        kind: max((t for t in found if t.kind == kind), key=lambda t: float(t.values @ aim.weights))
        for kind in dict.fromkeys(t.kind for t in found)
    }
    chosen = own.text if own else max(best.values(), key=lambda trial: float(trial.values @ aim.weights)).formula

    gauge, column_of = Gauge(aim, reported), {head: columns_of(head, kind)[0] for head, kind in asked.items()}
    scores = {text: parse_formula(text, rows.columns) for text in [chosen, *(trial.formula for trial in best.values())]}
    alone = {head: parse_formula(column, rows.columns) for head, column in column_of.items()}
    measured = {name: gauge.measure(each.value(reported.columns)) for name, each in {**scores, **alone}.items()}
    on_search = Gauge(aim, searched)
    heads_there = {head: on_search.values(searched.columns[column]) for head, column in column_of.items()}
    best_heads = {
        metric: max(heads_there, key=lambda head: float(heads_there[head][place]))
        for place, metric in enumerate(aim.coefficients)
    }
    result = Fused(
        objective=aim.text,
        formula=chosen,
        searched=_described(searched),
        reported=_described(reported),
        trials=len(found),
        table={name: _estimates(aim, each) for name, each in measured.items()},
        differences=[
            Difference(head, metric, estimate(measured[chosen], weights, measured[head]))
            for head in alone
            for metric, weights in _sums(aim).items()
        ],
        best_heads=best_heads,
        front=_front(aim, found, gauge, rows, reported) if len(aim.coefficients) > 1 and found else [],
    )
    write_json(folder / FUSION, to_plain(_plain(result, list(alone))))
    return result


def _check_heads(rows: RunRows, heads: Sequence[str] | None) -> Sequence[str]:
    chosen = [task.name for task in rows.tasks] if heads is None else list(dict.fromkeys(heads))
    for head in chosen:
        if head not in rows.kinds:
            raise InputError(f"--heads: no such head {head}.{did_you_mean(head, list(rows.kinds))}")
    if len(chosen) < 2:
        raise InputError(f"A run to fuse should have two heads or more. Received: {', '.join(chosen)}.")
    return chosen


def _described(part: Part) -> str:
    users = "" if part.users is None else f", {np.unique(part.users).size:,} users"
    return f"{part.name} ({len(part):,} rows{users})"


def _sums(aim: Objective) -> dict[str, Array]:
    """Return what each metric counts, by name: each metric by itself, and the objective where it is a sum."""
    single = dict(zip(aim.coefficients, np.eye(len(aim.coefficients)), strict=True))
    return single if len(single) == 1 else {OBJECTIVE: aim.weights, **single}


def _estimates(aim: Objective, measured: Measured) -> dict[str, Estimate]:
    return {name: estimate(measured, weights) for name, weights in _sums(aim).items()}


def _front(aim: Objective, found: Sequence[Trial], gauge: Gauge, rows: RunRows, reported: Part) -> list[dict[str, Any]]:
    points = []
    for trial in pareto_front(found):
        formula: Formula = parse_formula(trial.formula, rows.columns)
        there = gauge.values(formula.value(reported.columns))
        points.append(
            {
                "kind": trial.kind,
                "formula": trial.formula,
                "shares": trial.shares,
                "search": named(aim, trial.values),
                "report": named(aim, there),
            }
        )
    return points


def _plain(result: Fused, heads: Sequence[str]) -> dict[str, Any]:
    """Return `fusion.json`: the formula, how it was found, and its metrics."""

    def triple(found: Estimate) -> list[float]:
        return [found.value, found.low, found.high]

    return {
        "formula": result.formula,
        "objective": result.objective,
        "searched": result.searched,
        "reported": result.reported,
        "trials": result.trials,
        "heads": heads,
        "scores": {
            name: {metric: triple(found) for metric, found in metrics.items()} for name, metrics in result.table.items()
        },
        "differences": [
            {"head": one.head, "metric": one.metric, "difference": triple(one.estimate), "mark": one.mark}
            for one in result.differences
        ],
        "verdicts": result.verdicts(),
        "front": result.front,
    }
