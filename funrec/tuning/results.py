"""How a study's trials stand to each other: the best, the Pareto set, what mattered; and all of it in `trials.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from funrec.tuning.study import ATTEMPTS, EPOCHS, REASON, SECONDS, StudyFolder, quiet
from funrec.utils.files import write_json

TRIALS = "trials.json"

FINISHED, PRUNED, FAILED, RUNNING = "finished", "pruned", "failed", "running"
STATES = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}

#: With fewer finished trials, what mattered is anybody's guess.
TRIALS_FOR_IMPORTANCE = 8


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        number: Its number; 0 is the configuration as it is.
        state: `finished`, `pruned`, `failed` or `running`.
        values: The objectives, in their order; empty unless it finished.
        params: By key of the space.
        epochs: Epochs that it trained; none if that is unknown.
        seconds: What it took.
        reason: Why it was pruned, or failed.
        attempts: How many processes worked on it.
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


def ranked(found: Sequence[Outcome], signs: Sequence[int]) -> list[Outcome]:
    """Return the finished trials, the best first: those of the Pareto set, then by their mean rank over objectives.

    Of two that are alike the earlier comes first, so that nothing replaces the starting point without being better.
    """
    finished = [outcome for outcome in found if outcome.state == FINISHED]
    front = {outcome.number for outcome in pareto(finished, signs)}
    ranks = {outcome.number: 0.0 for outcome in finished}
    for place, sign in enumerate(signs):
        ordered = [sign * outcome.values[place] for outcome in finished]
        for outcome, value in zip(finished, ordered, strict=True):
            ranks[outcome.number] += sum(other > value for other in ordered)
    return sorted(finished, key=lambda outcome: (outcome.number not in front, ranks[outcome.number], outcome.number))


def pareto(found: Sequence[Outcome], signs: Sequence[int]) -> list[Outcome]:
    """Return the finished trials that no other beats in one objective without losing in another, by number."""
    finished = [outcome for outcome in found if outcome.state == FINISHED]
    scores = {
        outcome.number: [sign * value for sign, value in zip(signs, outcome.values, strict=True)]
        for outcome in finished
    }

    def is_beaten(number: int) -> bool:
        mine = scores[number]
        return any(
            other != mine and all(theirs >= ours for theirs, ours in zip(other, mine, strict=True))
            for other in scores.values()
        )

    return [outcome for outcome in finished if not is_beaten(outcome.number)]


def importance(study: StudyFolder) -> dict[str, dict[str, float]]:
    """Return each key's share in what made trials good, by objective; empty with too few trials to say.

    PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023): how far the values of the better trials are from those of all.
    """
    finished = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(finished) < TRIALS_FOR_IMPORTANCE:
        return {}
    within, found = _within(study, finished), {}
    for place, (name, sign) in enumerate(zip(study.plan.settings.objectives, study.plan.settings.signs, strict=True)):

        def loss(trial: FrozenTrial, place: int = place, sign: int = sign) -> float:
            return -sign * float(trial.values[place])

        with quiet():  # it says that it takes less of the target for better, which is why that is a loss
            shares = get_param_importances(within, evaluator=PedAnovaImportanceEvaluator(), target=loss)
        found[name] = {key: round(float(share), 4) for key, share in shares.items()}
    return found


def write_trials(study: StudyFolder) -> None:
    """Write `trials.json`, for those who read without Optuna."""
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
        write_json(Path(study.path) / TRIALS, plain)


def _outcome(study: StudyFolder, trial: FrozenTrial) -> Outcome:
    state = STATES.get(trial.state, RUNNING)
    attributes = trial.user_attrs
    return Outcome(
        trial.number,
        state,
        list(trial.values) if state == FINISHED else [],
        study.values(trial),
        attributes.get(EPOCHS),
        attributes.get(SECONDS),
        str(attributes.get(REASON, "")),
        int(attributes.get(ATTEMPTS, 1)),
    )


def _within(study: StudyFolder, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """Return a study in memory of trials whose values lie within the space; the starting values may not."""
    start_is_within = all(entry.holds(study.plan.start[key]) for key, entry in study.plan.space.items())
    kept = optuna.create_study(directions=study.optuna.directions)
    kept.add_trials(trial for trial in trials if trial.number or start_is_within)
    return kept
