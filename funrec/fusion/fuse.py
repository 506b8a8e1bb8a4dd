"""`funrec fuse`: search a formula on some rows of a run, report it on others, keep it with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from funrec.comparison.significance import Estimate, Measured, estimate, holm, mark
from funrec.fusion.objective import Gauge, Objective, named
from funrec.fusion.rows import Part, RunRows
from funrec.fusion.search import KINDS, MULTIPLICATIVE, Trial, find_not_positive, pareto_front, search
from funrec.metrics import build_metrics
from funrec.metrics.sorting import Array
from funrec.runs.formula import FUSION, Formula, columns_of, parse_formula
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import to_plain, write_json

OBJECTIVE = "objective"


@dataclass(frozen=True)
class Difference:
    """How the fused score differs from a head alone in a metric, on the rows of the report.

    Attributes:
        mark: `better`, `worse` or `cannot tell`, by Holm over all differences.
    """

    head: str
    metric: str
    estimate: Estimate
    mark: str


@dataclass(frozen=True)
class Fused:
    """A fused score and how it does: what `fusion.json` holds.

    Attributes:
        objective: What was asked for.
        formula: The formula chosen on the rows of the search.
        searched, reported: What the rows were, in words, with their numbers.
        trials: Number of formulas tried.
        heads: The heads that were weighed.
        left_out: Why products were not tried; None where they were, or were not asked for.
        table: By score (formulas, then heads alone), its metrics on the rows of the report with their intervals.
        differences: From each head alone.
        verdicts: A sentence per metric: whether the fused score beats the head that the search found best at it.
        front: The Pareto front of the search: formula, shares, metrics there and on the rows of the report.
    """

    objective: str
    formula: str
    searched: str
    reported: str
    trials: int
    heads: list[str]
    left_out: str | None
    table: dict[str, dict[str, Estimate]]
    differences: list[Difference]
    verdicts: list[str]
    front: list[dict[str, Any]]


def fuse(
    run: str | Path,
    objective: str,
    heads: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    trials: int = 200,
    seed: int = 0,
    formula: str | None = None,
) -> Fused:
    """Search one score from a run's heads, write it to the run's `fusion.json`, and return how it does.

    Args:
        run: The folder of a finished run.
        objective: A sum of ranking metrics, such as `gauc_is_click + 2*gauc_is_like`.
        heads: The heads to weigh; by default the tasks.
        kinds: Of `funrec.fusion.search.KINDS`; by default all, without products where a head is not positive.
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
    for kind in kinds or ():
        if kind not in KINDS:
            raise InputError(
                f"--kinds should be of {', '.join(KINDS)}. Received: {kind}.{did_you_mean(kind, list(KINDS))}"
            )
    own = None if formula is None else parse_formula(formula, rows.columns, "--formula")
    searched, reported = rows.parts
    not_positive = None if kinds else find_not_positive(searched, asked)
    kinds = kinds or [kind for kind in KINDS if kind != MULTIPLICATIVE or not_positive is None]
    found = [] if own is not None else search(aim, searched, asked, kinds, trials, seed)
    ranked = sorted(found, key=lambda trial: float(trial.values @ aim.weights), reverse=True)
    of_kinds = dict.fromkeys(trial.kind for trial in ranked)  # the kind of the best formula first
    formulas = [next(trial.formula for trial in ranked if trial.kind == kind) for kind in of_kinds]
    chosen = own.text if own is not None else formulas[0]
    columns = {head: columns_of(head, kind)[0] for head, kind in asked.items()}
    gauge = Gauge(aim, reported)
    measured = {
        name: gauge.measure(parse_formula(text, rows.columns).value(reported.columns))
        for name, text in {chosen: chosen, **dict(zip(formulas, formulas, strict=True)), **columns}.items()
    }
    differences = _differences(aim, measured, chosen, list(asked))
    result = Fused(
        objective=aim.text,
        formula=chosen,
        searched=_described(searched),
        reported=_described(reported),
        trials=len(found),
        heads=list(asked),
        left_out=not_positive and f"products were not tried: {not_positive} in some row",
        table={name: _estimates(aim, each) for name, each in measured.items()},
        differences=differences,
        verdicts=_verdicts(
            aim, Gauge(aim, searched), {h: searched.columns[c] for h, c in columns.items()}, differences
        ),
        front=_front(aim, found, gauge, rows, reported) if len(aim.coefficients) > 1 and found else [],
    )
    write_json(folder / FUSION, to_plain(asdict(result)))
    return result


def _differences(
    aim: Objective, measured: Mapping[str, Measured], chosen: str, heads: Sequence[str]
) -> list[Difference]:
    pairs = [(head, metric) for head in heads for metric in _sums(aim)]
    found = [estimate(measured[chosen], _sums(aim)[metric], measured[head]) for head, metric in pairs]
    adjusted = holm([one.p_value for one in found])
    return [
        Difference(head, metric, one, mark(one.value, p, higher_is_better=aim.coefficients.get(metric, 1.0) > 0))
        for (head, metric), one, p in zip(pairs, found, adjusted, strict=True)
    ]


def _verdicts(aim: Objective, gauge: Gauge, heads: Mapping[str, Array], differences: Sequence[Difference]) -> list[str]:
    """Return a sentence per metric; `gauge` and `heads` are of the rows of the search, which say who is best at it."""
    values = {head: gauge.values(scores) for head, scores in heads.items()}
    lines = []
    for place, (metric, coefficient) in enumerate(aim.coefficients.items()):
        by_head = {name: float(np.sign(coefficient) * of_head[place]) for name, of_head in values.items()}
        head = max(by_head, key=by_head.__getitem__)
        one = next(each for each in differences if (each.head, each.metric) == (head, metric))
        words = {"better": "beats", "worse": "loses to", "cannot tell": "cannot be told from"}[one.mark]
        lines.append(
            f"{metric}: the fused score {words} {head} alone, the best head for it "
            f"({one.estimate.value:+.4f}, 95% {one.estimate.low:+.4f} to {one.estimate.high:+.4f})."
        )
    return lines


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
    for trial in pareto_front(found, np.sign(aim.weights)):
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
