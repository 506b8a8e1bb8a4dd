"""Search the weights of a formula with Optuna (Akiba et al., KDD 2019).

Every kind of formula is linear in a basis of the heads' scores, up to a transform that keeps the order of rows:

    additive         sum w * p
    multiplicative   prod p^w, whose logarithm is sum w * log p
    linear           sum w * logit, as a logistic regression over the heads has it

so that a trial costs one product of a matrix and a vector, and the metrics.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.samplers import TPESampler

from funrec.fusion.objective import Gauge, Objective
from funrec.fusion.rows import Part
from funrec.metrics.sorting import Array, undominated
from funrec.runs.formula import columns_of, format_weights
from funrec.utils.errors import InputError

MULTIPLICATIVE = "multiplicative"
KINDS = ("additive", MULTIPLICATIVE, "linear")
#: Most points of a Pareto front that are kept.
MOST_POINTS = 24


@dataclass(frozen=True)
class Trial:
    """One formula and its metrics on the rows of the search.

    Attributes:
        kind: Of `KINDS`.
        shares: What each head counts, in standard deviations of its basis; they add up to 1. `float64 (heads,)`.
        formula: The formula as text.
        values: The objective's metrics, `float64 (metrics,)`.
    """

    kind: str
    shares: Array
    formula: str
    values: Array


def search(
    objective: Objective, part: Part, heads: Mapping[str, str], kinds: Sequence[str], trials: int, seed: int
) -> list[Trial]:
    """Try formulas of every kind, the heads alone and all alike among them.

    Args:
        objective: What to raise.
        part: The rows to measure it on.
        heads: The heads to weigh, and the kind of their scores; see `RunRows.kinds`.
        kinds: Of `KINDS`.
        trials: How many formulas of each kind.
        seed: Of the sampler.
    """
    gauge = Gauge(objective, part)
    bases = [_Basis(kind, part, heads, objective) for kind in kinds]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        found = list(pool.map(lambda basis: _search(basis, gauge, objective.weights, trials, seed), bases))
    return [trial for of_kind in found for trial in of_kind]


def pareto_front(trials: Sequence[Trial], signs: Array) -> list[Trial]:
    """Return the trials that no other is at least as good as in all metrics and better in one, by the first metric.

    Args:
        trials: Formulas that were tried.
        signs: By metric, 1 where more is better and -1 where less is, `(metrics,)`.
    """
    is_front = undominated(np.stack([trial.values * signs for trial in trials]))
    front = [trial for trial, is_kept in zip(trials, is_front, strict=True) if is_kept]
    unique = list({trial.values.tobytes(): trial for trial in front}.values())
    unique.sort(key=lambda trial: float(trial.values[0]))
    places = np.unique(np.linspace(0, len(unique) - 1, MOST_POINTS).astype(int))
    return [unique[place] for place in places]


def find_not_positive(part: Part, heads: Mapping[str, str]) -> str | None:
    """Return which head keeps products from being taken, by a score of 0 or less; None if none does."""
    lowest = {column: part.columns[column].min() for column in (columns_of(*head)[0] for head in heads.items())}
    return next((f"{column} is {value:.4g}" for column, value in lowest.items() if value <= 0), None)


class _Basis:
    """What a kind of formula is linear in: a column per head, standardised, `float64 (rows, heads)`."""

    def __init__(self, kind: str, part: Part, heads: Mapping[str, str], objective: Objective) -> None:
        self.kind = kind
        form = {"linear": "logit"}.get(kind, "p")
        self.columns = [f"{form if its == 'p' else its}_{head}" for head, its in heads.items()]
        basis = np.stack([part.columns[column] for column in self.columns], axis=1)
        if kind == MULTIPLICATIVE:
            if not_positive := find_not_positive(part, heads):
                raise InputError(
                    f"--kinds multiplicative should have positive scores. {not_positive} in some row. "
                    "Take --kinds additive,linear, or leave that head out of --heads."
                )
            basis = np.log(basis)
        signs = np.array([-1.0 if objective.is_avoided(head) else 1.0 for head in heads])
        spread = basis.std(axis=0)
        self._scale = signs / np.where(spread > 0, spread, 1.0)
        self._basis = basis * self._scale

    def score(self, shares: Array) -> Array:
        return self._basis @ shares

    def formula(self, shares: Array) -> str:
        """Write the formula, its largest weight 1, since the scale of a score says nothing."""
        weights = shares * self._scale
        return format_weights(self.columns, weights / np.abs(weights).max(), self.kind == MULTIPLICATIVE)


def _search(basis: _Basis, gauge: Gauge, weights: Array, trials: int, seed: int) -> list[Trial]:
    heads, found = len(basis.columns), []

    def run(trial: optuna.Trial) -> float:
        raw = np.array([trial.suggest_float(column, 0.0, 1.0) for column in basis.columns])
        shares = raw / raw.sum() if raw.any() else np.full(heads, 1 / heads)
        values = gauge.values(basis.score(shares))
        found.append(Trial(basis.kind, shares, basis.formula(shares), values))
        return float(values @ weights)

    # A quarter at random: they are what the Pareto front has away from the objective's best.
    sampler = TPESampler(n_startup_trials=max(trials // 4, 10), multivariate=True, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for start in (np.ones(heads), *np.eye(heads)):
        study.enqueue_trial(dict(zip(basis.columns, map(float, start), strict=True)))
    study.optimize(run, n_trials=trials)
    return found
