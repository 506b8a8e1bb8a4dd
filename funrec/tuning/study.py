"""A study's folder and its Optuna study: which trials there are, and which to run next.

    <study>/study.json      what is searched, and how
    <study>/study.db        Optuna's storage, unless search.storage names another
    <study>/trials.json     the trials, for readers without Optuna
    <study>/0, 1, ...       a run folder per trial; 0 is the configuration as it is
    <study>/best            the winner, as configuration files
    <study>/.locks          a lock per trial, held by the process that runs it, and one held while a trial is drawn

Any number of processes may work on a study, on all machines that share its disk. A trial that was stopped, or whose
process died, waits to be run again, under its number and with its values.

Three parts of Optuna are not used. Its heartbeat finds a dead process a minute late, takes a suspended one for dead,
misses one that died before its first beat, and exists in databases alone; a kernel lock per trial has none of these
faults. Its retry makes another trial of every attempt, and `optimize` ends a trial that Ctrl-C stops. Its
`GridSampler` fails on an enqueued trial; the points of a grid are enqueued instead, in a fixed order, so that more
processes do not change it.
"""

from __future__ import annotations

import json
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from funrec.config.compose import compose
from funrec.experiment.experiment import run_with_baselines
from funrec.experiment.run import EpochHook, Run
from funrec.tuning.plan import Plan, read_plan
from funrec.tuning.space import grid_point, grid_size
from funrec.utils.errors import InputError
from funrec.utils.files import one_line
from funrec.utils.locks import MOMENT, is_locked, locked, take_lock, wait_for_lock
from funrec.utils.logging import logging_to

LOCKS = ".locks"

#: So often a trial's process may die; then the trial has failed.
MOST_DEATHS = 3
#: Attributes of a trial in the storage.
REASON, EPOCHS, SECONDS, DEATHS = "reason", "epochs", "seconds", "deaths"

#: Trials before the pruners compare: that many curves say what is usual.
CURVES_TO_COMPARE = 5

#: Most points of a grid that are visited.
MOST_POINTS = 1 << 16

#: Runs a trial with its values of the space (none for trial 0), and returns its objectives.
Objective = Callable[[Trial, dict[str, Any]], list[float]]


class TrialFailed(Exception):
    """A trial has failed, for the reason in its attributes; the study goes on."""


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
        (path / LOCKS).mkdir()
        with storage_errors(path):
            optuna.create_study(study_name=plan.name, storage=study._storage, directions=directions)
        plan.write(path)
        return study

    @cached_property
    def optuna(self) -> optuna.Study:
        """Optuna's study."""
        with storage_errors(self.path):
            try:
                return optuna.load_study(study_name=self.plan.name, storage=self._storage, pruner=self._pruner())
            except KeyError:
                raise InputError(f"{self.path}: its storage should hold the study. It does not. Begin anew.") from None

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial that was begun, by number."""
        with storage_errors(self.path):
            return self.optuna.get_trials(deepcopy=False)

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
            return sorted(trial.number for trial in self.optuna.best_trials)

    def run(
        self, folder: Path, overrides: Sequence[str], live: bool, force: bool, on_epoch: EpochHook | None = None
    ) -> Run:
        """Run a configuration of the study in a folder, or resume it there; what is finished is read."""
        folder.mkdir(exist_ok=True)
        with logging_to(folder, verbose=False):
            config = compose(overrides) | {"baselines": False}
            runs = run_with_baselines(config, folder, overrides, live, resume=True, force=force, on_epoch=on_epoch)
        return runs[0]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process draw a trial meanwhile, or write its view of the trials."""
        with locked(self._lock_path("next")):
            yield

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / str(number)

    def has_work(self) -> bool:
        """Whether there is a trial to run, of those to come and those whose process died or was stopped."""
        with storage_errors(self.path), self.alone():
            return self._next_number() is not None

    def run_next(self, objective: Objective) -> bool:
        """Run one trial to its end, whatever that is; return False if there is none to run.

        What a trial draws depends on the trials before it and on no process, since only one process draws at a time.

        Raises:
            InputError: If the storage cannot be read or written.
            BaseException: What else the objective raises, but for `TrialFailed`: the trial waits to be run again.
        """
        with storage_errors(self.path):
            with self.alone():
                if (number := self._next_number()) is None:
                    return False
                trial, values = self._draw(number)
                if (lock := take_lock(self._lock_path(str(number)), wait=MOMENT)) is None:
                    raise RuntimeError(f"Trial {number} is new, and its lock is held already.")
            try:
                self.optuna.tell(trial, objective(trial, values))
            except TrialFailed:
                self.optuna.tell(trial, state=TrialState.FAIL)
            except optuna.TrialPruned:
                self.optuna.tell(trial, state=TrialState.PRUNED)
            except BaseException:
                self._let_wait(trial)
                raise
            finally:
                lock.release()
        return True

    def _next_number(self) -> int | None:
        """Return the number of the trial to run next, the first that waits or a new one. Hold the lock `next`."""
        running = [trial.number for trial in self.trials if trial.state == TrialState.RUNNING]
        left = [number for number in running if not is_locked(self._lock_path(str(number)))]
        for trial in [self.trials[number] for number in left]:
            if trial.state == TrialState.RUNNING:  # else it ended between the two looks
                deaths = trial.user_attrs.get(DEATHS, 0) + 1
                self._storage.set_trial_user_attr(trial._trial_id, DEATHS, deaths)
                if deaths < MOST_DEATHS:
                    self._let_wait(trial)
                else:
                    self.optuna.tell(trial.number, state=TrialState.FAIL)
        trials = self.trials
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return waiting[0] if waiting else None if is_late or len(trials) >= self.total else len(trials)

    def _let_wait(self, trial: FrozenTrial | Trial) -> None:
        self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _draw(self, number: int) -> tuple[Trial, dict[str, Any]]:
        """Begin a trial, or one that waits again, which keeps the values it has."""
        space, start = self.plan.space, self.plan.start
        keys = [key for key, entry in space.items() if number or entry.holds(start[key])]
        if number == len(self.trials) and (number == 0 or self.plan.settings.sampler == "grid"):
            point = grid_point(space, self._grid[number - 1]) if number else start
            self.optuna.enqueue_trial({key: space[key].encode(point[key]) for key in keys})
        self.optuna.sampler = self._sampler(number)
        trial, values = self.optuna.ask(), {}
        for key in keys:
            self.optuna.sampler = self._sampler(number, key)  # of its own, as some values may have been drawn before
            values[key] = space[key].decode(space[key].suggest(trial, key))
        return trial, values if number else {}

    def _lock_path(self, name: str) -> Path:
        return self.path / LOCKS / name

    @cached_property
    def _grid(self) -> list[int]:
        """The places of a grid's points in the order of their trials, without the starting point."""
        size = grid_size(self.plan.space)
        order = random.Random(self.plan.settings.seed).sample(range(size), min(size, MOST_POINTS))
        return [place for place in order if grid_point(self.plan.space, place) != self.plan.start]

    def _sampler(self, *of: object) -> BaseSampler:
        seed = random.Random(f"{self.plan.settings.seed} {of}").randrange(2**31)
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

    @cached_property
    def _storage(self) -> BaseStorage:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with storage_errors(self.path):
            match self.plan.settings.storage:
                case "journal":
                    file = self.path / "journal.log"
                    return JournalStorage(JournalFileBackend(str(file), _JournalLock(file)))
                case None:
                    seconds = {"timeout": 60}  # to wait while another process writes
                    return RDBStorage(f"sqlite:///{self.path / 'study.db'}", engine_kwargs={"connect_args": seconds})
                case url:
                    return RDBStorage(url)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of a study's storage into one line, and ignore Optuna's warnings on parts that are experimental."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", module="optuna")
            yield
    except (StorageInternalError, SQLAlchemyError, ImportError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} should have a storage that can be used. Received: {one_line(error.__cause__ or error)}. Mend "
            "that, or begin a study with another search.storage."
        ) from error


class _JournalLock(JournalFileOpenLock):
    """A kernel lock on a journal; Optuna's own lock files outlive a killed process for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        """Take the lock, and remove the line that a killed process or a full disk cut short."""
        self._lock = wait_for_lock(self._path.with_name(f".{self._path.name}.lock"))
        content = self._path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(self._path, content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
