"""What became of a study's trials: told as they end, compared with each other, and all of it in `trials.json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from funrec.tuning.study import DEATHS, EPOCHS, REASON, SECONDS, StudyFolder, storage_errors
from funrec.utils.files import write_json

TRIALS = "trials.json"

FINISHED, PRUNED, FAILED, RUNNING = "finished", "pruned", "failed", "running"
STATES = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}

#: With fewer finished trials, the importance of keys is not estimated.
TRIALS_FOR_IMPORTANCE = 8


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        number: Its number; 0 is the configuration as it is.
        state: `finished`, `pruned`, `failed` or `running` (also if it is to be resumed).
        values: The objectives, in their order; empty unless it finished.
        params: By key of the space.
        epochs: Epochs that it trained; None if that is unknown.
        seconds: How long it took.
        reason: Why it was pruned, or failed.
        attempts: How many processes worked on it, those aside that were stopped through no fault of the trial.
    """

    number: int
    state: str
    values: list[float]
    params: dict[str, Any]
    epochs: int | None
    seconds: float | None
    reason: str
    attempts: int


def outcomes(study: StudyFolder) -> list[Outcome]:
    """Return what became of every trial so far, by number."""
    return [_outcome(study, trial) for trial in study.trials]


def _outcome(study: StudyFolder, trial: FrozenTrial) -> Outcome:
    noted, state = trial.user_attrs, STATES.get(trial.state, RUNNING)
    deaths, space = noted.get(DEATHS, 0), study.plan.space
    params = {key: space[key].decode(value) for key, value in trial.params.items() if key in space}
    reason = noted.get(REASON, f"its process was killed {deaths} times: out of memory?")
    return Outcome(
        number=trial.number,
        state=state,
        values=list(trial.values) if state == FINISHED else [],
        params=params if trial.number else dict(study.plan.start),
        epochs=noted.get(EPOCHS),
        seconds=noted.get(SECONDS),
        reason=reason if state in (PRUNED, FAILED) else "",
        attempts=deaths if state == FAILED and REASON not in noted else deaths + 1,
    )


def ranked(study: StudyFolder, found: Sequence[Outcome]) -> list[Outcome]:
    """Return the finished trials, the best first: Optuna's best, then by their mean rank over the objectives.

    Of two equal trials the earlier comes first, so nothing replaces the configuration as it is without being better.
    """
    finished = [outcome for outcome in found if outcome.state == FINISHED]
    best, ranks = study.best_numbers, dict.fromkeys((outcome.number for outcome in finished), 0)
    for place, sign in enumerate(study.plan.settings.signs):
        ordered = [sign * outcome.values[place] for outcome in finished]
        for outcome, value in zip(finished, ordered, strict=True):
            ranks[outcome.number] += sum(other > value for other in ordered)
    return sorted(finished, key=lambda outcome: (outcome.number not in best, ranks[outcome.number], outcome.number))


def importance(study: StudyFolder) -> dict[str, dict[str, float]]:
    """Return the importance of each key, by objective; empty with too few trials to estimate it.

    PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023): how far the values of the better trials are from those of all.
    """
    settings = study.plan.settings
    finished = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(finished) < TRIALS_FOR_IMPORTANCE:
        return {}
    start_is_within = all(entry.holds(study.plan.start[key]) for key, entry in study.plan.space.items())
    within, found = optuna.create_study(directions=study.optuna.directions), {}
    within.add_trials(trial for trial in finished if start_is_within or set(trial.params) == set(study.plan.space))
    for place, (name, sign) in enumerate(zip(settings.objectives, settings.signs, strict=True)):

        def loss(trial: FrozenTrial, place: int = place, sign: int = sign) -> float:
            return -sign * float(trial.values[place])  # the evaluator takes less for better

        with storage_errors(study.path):
            by_key = get_param_importances(within, evaluator=PedAnovaImportanceEvaluator(), target=loss)
        found[name] = {key: round(float(value), 4) for key, value in by_key.items()}
    return found


def write_trials(study: StudyFolder) -> None:
    """Write `trials.json`, for readers without Optuna."""
    with study.alone():
        settings = study.plan.settings
        plain = {
            "search": study.plan.search,
            "objectives": settings.objectives,
            "sampler": settings.sampler,
            "total": study.total,
            "trials": [asdict(outcome) for outcome in outcomes(study)],
            "importance": importance(study),
        }
        write_json(study.path / TRIALS, plain)


def duration(seconds: float) -> str:
    """Return seconds in words."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


class StudyProgress:
    """Reports every trial's end once, with the best so far and the time left, on standard error."""

    def __init__(self, study: StudyFolder) -> None:
        self._study = study
        self._said = {outcome.number for outcome in outcomes(study) if outcome.state != RUNNING}

    def update(self) -> int:
        """Report what has ended since the last time; return how many trials have ended."""
        found = outcomes(self._study)
        ended = [outcome for outcome in found if outcome.state != RUNNING]
        if new := [outcome for outcome in ended if outcome.number not in self._said]:
            summary = self._summary(found, len(ended))
            for outcome in new:
                self._said.add(outcome.number)
                say(f"trial {outcome.number}: {self._describe(outcome)} ({summary})")
        return len(ended)

    def _describe(self, outcome: Outcome) -> str:
        took = "" if outcome.seconds is None else f", {duration(outcome.seconds)}"
        if outcome.state == FINISHED:
            names = self._study.plan.settings.objectives
            return ", ".join(f"{name} {value:.4f}" for name, value in zip(names, outcome.values, strict=True)) + took
        return f"{outcome.state}{took}: {outcome.reason}"

    def _summary(self, found: Sequence[Outcome], ended: int) -> str:
        total, workers = self._study.total, self._study.plan.settings.workers
        parts, left = [f"{ended} of {total} done"], total - ended
        if best := ranked(self._study, found):
            if len(front := self._study.best_numbers) > 1 and len(best[0].values) > 1:
                parts.append(f"{len(front)} in the Pareto set")
            else:
                parts.append(f"best {best[0].values[0]:.4f} of trial {best[0].number}")
        spent = [outcome.seconds for outcome in found if outcome.seconds and outcome.state in (FINISHED, PRUNED)]
        if spent and left:
            parts.append(f"about {duration(sum(spent) / len(spent) * left / min(workers, left))} left")
        return ", ".join(parts)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # progress, not a result
