"""A study's folder and its Optuna study: which trials there are, and which to run next.

    <study>/study.json      what is searched, and how
    <study>/study.db        Optuna's storage, unless search.storage names another
    <study>/trials.json     the trials, for readers without Optuna
    <study>/0, 1, ...       a run folder per trial; 0 is the configuration as it is
    <study>/best            the winner, as configuration files
    <study>/.locks          a lock per trial, held by the process that runs it, and one held while a trial is drawn

Any number of processes may work on a study, on all machines that share its disk.

Two parts of Optuna are not used. Its heartbeat finds a dead process a minute late, takes a suspended one for dead,
misses one that died before its first beat, and exists in databases alone; a kernel lock per trial has none of these
faults. Its `GridSampler` draws at random once a trial was retried, and fails on an enqueued trial; the points of a grid
are enqueued instead, in a fixed order, so that more processes do not change it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from funrec.tuning.plan import Plan, read_plan
from funrec.tuning.space import grid_point, grid_size
from funrec.tuning.storage import open_storage, storage_errors
from funrec.utils.errors import InputError
from funrec.utils.locks import MOMENT, is_locked, locked, take_lock, wait_for_lock

LOCKS = ".locks"

#: How often a trial's process may die before the trial counts as failed.
MOST_ATTEMPTS = 3

#: Attributes of a trial in the storage. The last lists the attempts that were stopped through no fault of the trial.
REASON, EPOCHS, SECONDS, STOPPED = "reason", "epochs", "seconds", "stopped"

#: Trials before the pruners compare: that many curves say what is usual.
CURVES_TO_COMPARE = 5

#: Most points of a grid that are visited.
MOST_POINTS = 1 << 16

#: Runs a trial, given its number and its values (empty for trial 0), and returns its objectives.
Objective = Callable[[Trial, int, dict[str, Any]], list[float]]


class TrialFailed(Exception):
    """A trial has failed, for the reason in its attributes; the study goes on."""


class StudyFolder:
    """A study on disk.

    A trial's number counts the trials that were begun. A trial that is retried keeps its number and its folder,
    although each attempt is a trial of its own to Optuna.

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
        """Begin a study in a new folder.

        Raises:
            InputError: If the storage cannot be written.
        """
        study = cls(path, plan)
        directions = [StudyDirection.MAXIMIZE if sign > 0 else StudyDirection.MINIMIZE for sign in plan.settings.signs]
        (path / LOCKS).mkdir()
        with storage_errors(path):
            optuna.create_study(study_name=plan.name, storage=study._storage, directions=directions)
            start = {key: entry for key, entry in plan.space.items() if entry.holds(plan.start[key])}
            study.optuna.enqueue_trial({key: entry.encode(plan.start[key]) for key, entry in start.items()})
        plan.write(path)
        return study

    @cached_property
    def optuna(self) -> optuna.Study:
        """Optuna's study.

        Raises:
            InputError: If the storage is missing or damaged.
        """
        with storage_errors(self.path):
            try:
                return optuna.load_study(study_name=self.plan.name, storage=self._storage, pruner=self._pruner())
            except KeyError:
                raise InputError(f"{self.path}: its storage should hold the study. It does not. Begin anew.") from None

    @property
    def trials(self) -> list[FrozenTrial]:
        """The last attempt of every trial that was begun; its place is the trial's number."""
        with storage_errors(self.path):
            return list(self._attempts().values())

    @property
    def total(self) -> int:
        """How many trials there are to be."""
        settings = read_plan(self.path).settings  # another process may have asked for more meanwhile
        return min(settings.trials, len(self._grid) + 1) if settings.sampler == "grid" else settings.trials

    @property
    def running(self) -> int:
        """How many trials a process is running, here or elsewhere."""
        return sum(trial.state == TrialState.RUNNING for trial in self.trials)

    @property
    def best_numbers(self) -> list[int]:
        """The numbers of Optuna's best trials: the Pareto set if there are several objectives."""
        with storage_errors(self.path):
            firsts = list(self._attempts())
            return sorted(firsts.index(_first(trial)) for trial in self.optuna.best_trials)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process draw a trial meanwhile, or write its view of the trials."""
        with locked(self._lock_path("next")):
            yield

    def reported(self, trial: Trial) -> list[int]:
        """Return the epochs whose metric the storage knows already."""
        return list(self._frozen(trial).intermediate_values)

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / str(number)

    def values(self, number: int, trial: FrozenTrial) -> dict[str, Any]:
        """Return the values of the space that a trial has; for trial 0 those of the configuration as it is."""
        if number == 0:
            return dict(self.plan.start)
        space = self.plan.space
        return {key: space[key].decode(value) for key, value in trial.params.items() if key in space}

    def has_work(self) -> bool:
        """Whether there is a trial to run, of those to come and those whose process died or was stopped."""
        with storage_errors(self.path), self.alone():
            return self._has_work(self._retry_stopped())

    def run_next(self, objective: Objective) -> bool:
        """Run one trial to its end, whatever that is; return False if there is none to run.

        What a trial draws depends on the trials before it and on no process, since only one process draws at a time.

        Raises:
            InputError: If the storage cannot be read or written, or the objective raises it.
        """
        held = [wait_for_lock(self._lock_path("next"))]

        def run(trial: Trial) -> list[float]:
            number = list(self._attempts()).index(_first(self._frozen(trial)))
            keys = [key for key, entry in self.plan.space.items() if number or entry.holds(self.plan.start[key])]
            params = {key: self.plan.space[key].suggest(trial, key) for key in keys}
            if (lock := take_lock(self._lock_path(str(number)), wait=MOMENT)) is None:
                raise RuntimeError(f"Trial {number} is new, and its lock is held already.")
            held.append(lock)
            held[0].release()
            return objective(
                trial, number, {key: self.plan.space[key].decode(params[key]) for key in keys} if number else {}
            )

        try:
            with storage_errors(self.path):
                attempts = self._retry_stopped()
                if not self._has_work(attempts):
                    return False
                number = self._next_number(attempts)
                self.optuna.sampler = self._sampler(number)
                self._enqueue_point(number)
                self.optuna.optimize(run, n_trials=1, catch=(TrialFailed,))
            return True
        finally:
            for lock in held:
                lock.release()

    def _attempts(self) -> dict[int, FrozenTrial]:
        """Return the last attempt of every trial that was begun, by Optuna's number of the first attempt."""
        trials = self.optuna.get_trials(deepcopy=False)
        return {_first(trial): trial for trial in trials if not _is_waiting(trial) or _is_retry(trial)}

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.optuna.get_trials(deepcopy=False)[trial.number]

    def _has_work(self, attempts: dict[int, FrozenTrial]) -> bool:
        if any(_is_waiting(trial) for trial in attempts.values()):
            return True
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return len(attempts) < self.total and not is_late

    def _retry_stopped(self) -> dict[int, FrozenTrial]:
        """Enqueue trials again whose process died or was stopped; return the last attempts. Hold the lock `next`."""
        for number, trial in enumerate(self._attempts().values()):
            if trial.state == TrialState.RUNNING and not is_locked(self._lock_path(str(number))):
                trial = self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                if trial.state != TrialState.FAIL or REASON in trial.user_attrs:
                    continue  # it ended between the two looks
            elif trial.state != TrialState.FAIL or trial.number not in trial.user_attrs.get(STOPPED, []):
                continue
            if number and len(trial.params) < len(self.plan.space):  # its process died while it drew: draw all again
                trial.params, trial.distributions = {}, {}
            most = MOST_ATTEMPTS - 1 + len(trial.user_attrs.get(STOPPED, []))
            RetryHeartbeatStaleTrialCallback(most, inherit_intermediate_values=True)(self.optuna, trial)
        return self._attempts()

    def _next_number(self, attempts: dict[int, FrozenTrial]) -> int:
        """Return the number of the trial that Optuna takes next: the one that waits for the longest, else a new one."""
        waiting = [(trial.number, place) for place, trial in enumerate(attempts.values()) if _is_waiting(trial)]
        return min(waiting)[1] if waiting else len(attempts)

    def _lock_path(self, name: str) -> Path:
        return self.path / LOCKS / name

    def _enqueue_point(self, number: int) -> None:
        """Enqueue the point of a grid that a new trial visits; trial 0 was enqueued when the study began."""
        is_waiting = any(_is_waiting(trial) for trial in self.optuna.get_trials(deepcopy=False))
        if self.plan.settings.sampler == "grid" and not is_waiting:
            point = grid_point(self.plan.space, self._grid[number - 1])
            self.optuna.enqueue_trial({key: self.plan.space[key].encode(value) for key, value in point.items()})

    @cached_property
    def _grid(self) -> list[int]:
        """The places of a grid's points in the order of their trials, without the starting point."""
        size = grid_size(self.plan.space)
        order = random.Random(self.plan.settings.seed).sample(range(size), min(size, MOST_POINTS))
        return [place for place in order if grid_point(self.plan.space, place) != self.plan.start]

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of one trial."""
        seed = random.Random(f"{self.plan.settings.seed} {number}").randrange(2**31)
        kinds = {"tpe": TPESampler, "gp": GPSampler}
        return kinds.get(self.plan.settings.sampler, RandomSampler)(seed=seed)

    @cached_property
    def _storage(self) -> BaseStorage:
        return open_storage(self.path, self.plan.settings.storage)

    def _pruner(self) -> BasePruner:
        epochs = int(self.plan.config["trainer"]["epochs"])
        match self.plan.settings.pruner:
            case "median":
                return MedianPruner(n_startup_trials=CURVES_TO_COMPARE)
            case "hyperband":
                return HyperbandPruner(min_resource=1, max_resource=max(epochs, 1), reduction_factor=3)
        return NopPruner()


def _first(trial: FrozenTrial) -> int:
    """Return Optuna's number of a trial's first attempt."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def retries(trial: FrozenTrial) -> int:
    """Return how many attempts at a trial came before this one."""
    return len(trial.system_attrs.get("retry_history", []))


def _is_waiting(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING


def _is_retry(trial: FrozenTrial) -> bool:
    return "failed_trial" in trial.system_attrs
