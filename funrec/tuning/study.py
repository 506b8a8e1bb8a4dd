"""A study's folder: Optuna's journal in it, and who works on which trial.

    <study>/study.json      what is searched, and how; written once it can be worked on
    <study>/journal.log     Optuna's journal: every trial, its values, its state
    <study>/trials.json     the same in short, for those who read without Optuna
    <study>/0, 1, ...       a run folder per trial; 0 is the configuration as it is
    <study>/best            the winner, as configuration files
    <study>/.claims         a lock per trial, held by the process that works on it

Any number of processes may work on a study, on any machine that shares its disk.
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from funrec.tuning.journal import Journal
from funrec.tuning.plan import Plan, read_plan
from funrec.tuning.space import grid_point, grid_size
from funrec.utils.errors import InputError
from funrec.utils.locks import locked, take_lock

log = logging.getLogger("funrec")

NAME = "funrec"
JOURNAL = "journal.log"

#: How often a trial's process may die before the trial counts as failed.
MOST_ATTEMPTS = 3

#: Attributes of a trial in the journal.
ATTEMPTS, REASON, EPOCHS, SECONDS = "attempts", "reason", "epochs", "seconds"

#: Trials before the pruners compare: that many curves say what is usual.
CURVES_TO_COMPARE = 5


@dataclass(frozen=True)
class Work:
    """A trial that this process has claimed.

    Attributes:
        trial: Optuna's.
        values: By key of the space; empty for the configuration as it is.
        claim: Held until the trial is told, or this process ends.
    """

    trial: Trial
    values: dict[str, Any]
    claim: filelock.BaseFileLock


class StudyFolder:
    """A study on disk.

    Args:
        path: Its folder.
        plan: What is searched, and how; read from the folder if not given.
    """

    def __init__(self, path: Path, plan: Plan | None = None) -> None:
        self.path = path
        self.plan = read_plan(path) if plan is None else plan
        self._deadline = None if (limit := self.plan.settings.timeout) is None else time.monotonic() + limit

    @classmethod
    def create(cls, path: Path, plan: Plan) -> StudyFolder:
        """Begin a study in a new folder."""
        study = cls(path, plan)
        directions = [StudyDirection.MAXIMIZE if sign > 0 else StudyDirection.MINIMIZE for sign in plan.settings.signs]
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        optuna.create_study(study_name=NAME, storage=study._storage, directions=directions)
        (path / ".claims").mkdir()
        plan.write(path)
        return study

    @cached_property
    def optuna(self) -> optuna.Study:
        """Optuna's study.

        Raises:
            InputError: If the journal is missing or damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            return optuna.load_study(study_name=NAME, storage=self._storage, pruner=self._pruner())
        except KeyError:
            raise InputError(f"{self.path / JOURNAL} should hold the study. Received: nothing. Begin anew.") from None

    @cached_property
    def _storage(self) -> JournalStorage:
        return JournalStorage(Journal(self.path / JOURNAL))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun, in the order of their numbers."""
        return [trial for trial in self.optuna.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    @property
    def total(self) -> int:
        """How many trials there are to be."""
        settings = read_plan(self.path).settings  # somebody may have asked for more meanwhile
        return min(settings.trials, self._points) if settings.sampler == "grid" else settings.trials

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / str(number)

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the values of the space that a trial has; for trial 0 those that it starts from."""
        if trial.number == 0:
            return dict(self.plan.start)
        space = self.plan.space
        return {key: space[key].decode(value) for key, value in trial.params.items() if key in space}

    def claim(self) -> Work | None:
        """Take a trial whose process died, or else a new one; none if there is nothing to do.

        A trial that has cost `MOST_ATTEMPTS` processes their lives is told as failed.
        """
        with self.alone():
            for trial in self.trials:
                if (claim := self._take_abandoned(trial)) is None:
                    continue
                self.optuna.sampler = self._sampler(trial.number)
                work = self._work(Trial(self.optuna, self._id(trial.number)), claim)
                attempts = int(trial.user_attrs.get(ATTEMPTS, 1))
                if attempts < MOST_ATTEMPTS:
                    work.trial.set_user_attr(ATTEMPTS, attempts + 1)
                    return work
                why = f"its process was killed {attempts} times: out of memory?"
                self.tell(work, TrialState.FAIL, {REASON: why})
            if len(self.trials) >= self.total or self.is_late:
                return None
            return self._begin()

    @property
    def running(self) -> int:
        """How many trials are with some process, here or elsewhere."""
        return sum(trial.state == TrialState.RUNNING for trial in self.trials)

    def has_work(self) -> bool:
        """Whether there is a trial to take."""
        with self.alone():
            for trial in self.trials:
                if (claim := self._take_abandoned(trial)) is not None:
                    claim.release()
                    return True
            return len(self.trials) < self.total and not self.is_late

    def tell(
        self, work: Work, state: TrialState, attributes: Mapping[str, Any], values: list[float] | None = None
    ) -> None:
        """Tell how a trial ended."""
        for name, value in attributes.items():
            work.trial.set_user_attr(name, value)
        self.optuna.tell(work.trial, values, state)
        work.claim.release()

    def give_back(self, work: Work, attributes: Mapping[str, Any]) -> None:
        """Let somebody else go on with a trial that was stopped, but not by its own fault."""
        attempts = int(work.trial.user_attrs.get(ATTEMPTS, 1))
        for name, value in {ATTEMPTS: attempts - 1, **attributes}.items():
            work.trial.set_user_attr(name, value)
        work.claim.release()

    def reported(self, number: int) -> list[int]:
        """Return the epochs whose metric the study knows already."""
        return list(self._storage.get_trial(self._id(number)).intermediate_values)

    def _begin(self) -> Work:
        number = len(self.trials)
        self.optuna.sampler = self._sampler(number)
        waiting = any(trial.state == TrialState.WAITING for trial in self.optuna.get_trials(deepcopy=False))
        if not waiting and (values := self._given(number)) is not None:
            self.optuna.enqueue_trial({key: self.plan.space[key].encode(value) for key, value in values.items()})
        trial = self.optuna.ask()
        claim = self._take(trial.number)
        if claim is None:
            raise RuntimeError(f"Trial {trial.number} is new, and claimed already.")
        return self._work(trial, claim)

    def _work(self, trial: Trial, claim: filelock.BaseFileLock) -> Work:
        """Draw what a trial lacks; a killed process may have left it with some of its values, which it keeps."""
        space = self.plan.space
        with quiet():
            params = {key: entry.suggest(trial, key) for key, entry in space.items()}
        values = {key: space[key].decode(value) for key, value in params.items()} if trial.number else {}
        return Work(trial, values, claim)

    def _take_abandoned(self, trial: FrozenTrial) -> filelock.BaseFileLock | None:
        if trial.state != TrialState.RUNNING or (claim := self._take(trial.number)) is None:
            return None
        if self._storage.get_trial(self._id(trial.number)).state == TrialState.RUNNING:
            return claim
        claim.release()  # it was told between the two looks
        return None

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(NAME)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _take(self, number: int) -> filelock.BaseFileLock | None:
        return take_lock(self.path / ".claims" / str(number))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While trials are handed out, no other process hands out any."""
        with locked(self.path / ".claims" / "all"):
            yield

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of one trial: what it draws depends on the trials before it, and on no process."""
        seed = random.Random(f"{self.plan.settings.seed} {number}").randrange(2**31)
        kinds = {"tpe": TPESampler, "gp": GPSampler}
        return kinds.get(self.plan.settings.sampler, RandomSampler)(seed=seed)

    def _pruner(self) -> BasePruner:
        epochs = int(self.plan.config["trainer"]["epochs"])
        match self.plan.settings.pruner:
            case "median":
                return MedianPruner(n_startup_trials=CURVES_TO_COMPARE)
            case "hyperband":
                return HyperbandPruner(min_resource=1, max_resource=max(epochs, 1), reduction_factor=3)
        return NopPruner()

    def _given(self, number: int) -> dict[str, Any] | None:
        """Return the values of a trial that no sampler draws: the first, and those of a grid."""
        if number == 0:
            return self.plan.start
        return grid_point(self.plan.space, self._order[number - 1]) if self.plan.settings.sampler == "grid" else None

    @cached_property
    def _points(self) -> int:
        """Trials of a whole grid, the first included."""
        return len(self._order) + 1

    @cached_property
    def _order(self) -> list[int]:
        """The places of a grid's points in the order of their trials; the starting point is trial 0."""
        size = grid_size(self.plan.space)
        drawn = random.Random(self.plan.settings.seed)
        order = drawn.sample(range(size), size) if size <= 1 << 16 else drawn.sample(range(size), 1 << 16)
        return [place for place in order if grid_point(self.plan.space, place) != self.plan.start]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to oneself what Optuna warns of, where that is known: a starting value outside of its range, say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
