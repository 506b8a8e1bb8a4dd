"""A sweep from start to end: plan every job, write the plan, have a launcher run the jobs that are not done."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from funrec.config.compose import one_line_errors, reaching_overrides, to_plain
from funrec.config.overrides import quoted
from funrec.experiment.settings import check_settings
from funrec.runs.folder import FAILURE, is_finished, status, write_failure
from funrec.runs.protocol import check_one_protocol
from funrec.sweeps.jobs import SERIAL, Show, run_hydra_job
from funrec.sweeps.plan import (
    Job,
    Sweep,
    check_same_jobs,
    check_unchanged,
    fingerprint,
    is_done,
    leading,
    read_sweep,
    resume_command,
    wait_until_stopped,
)
from funrec.sweeps.processes import ProcessLauncher
from funrec.sweeps.schedule import DAILY, daily_jobs
from funrec.sweeps.status import reporting
from funrec.utils.errors import InputError
from funrec.utils.signals import Interrupted

log = logging.getLogger("funrec")

#: Environment variables that a job in another process, perhaps on another machine, needs.
PASSED_ON = ("FUNREC_CACHE", "FUNREC_ALLOW", "FUNREC_CONFIG_DIR")

#: Jobs that take a while to plan: each is composed by itself.
MANY = 40


@dataclass
class Request:
    """What was asked of a sweep, beside the configuration that Hydra composes of it.

    Attributes:
        command: The arguments of `funrec run`.
        overrides: Those of them that say what the jobs are.
        fail_fast: Whether no job starts once one has failed.
        resumed: The folder of the sweep to resume; None for a new one.
        force: Whether to resume although configuration, data or code has changed.
        show: Prints the runs of a job of the serial launcher.
        sweep: The sweep, once it is planned.
        is_watched: Whether its jobs run one after the other and print to the terminal.
    """

    command: Sequence[str]
    overrides: Sequence[str]
    fail_fast: bool = False
    resumed: Path | None = None
    force: bool = False
    show: Show | None = None
    sweep: Sweep | None = field(default=None, init=False)
    is_watched: bool = field(default=False, init=False)


class SweepInterrupted(Interrupted):
    """A sweep was stopped from outside; what ran has a checkpoint."""

    def __init__(self, sweep: Sweep) -> None:
        self.folder, self.position = sweep.path, ""
        done = sum(is_finished(sweep.folder(job)) for job in sweep.jobs)
        text = f"Interrupted. {done} of {len(sweep.jobs)} jobs are finished. To go on: {resume_command(sweep.path)}"
        KeyboardInterrupt.__init__(self, text)


@dataclass
class _Planned:
    """A job and its composed configuration, or the error in it."""

    job: Job
    config: dict[str, Any]
    problem: InputError | None


class Sweeper(HydraSweeper):
    """Runs every combination of the values that overrides list.

    Args:
        params: Overrides by key that come from a configuration; those of the command line come after them.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra composed, and the `Request` that the task function carries."""
        self._context, self._config = hydra_context, config
        self._request: Request = task_function.request  # type: ignore[attr-defined]  # see funrec.cli.run
        task: TaskFunction = run_hydra_job
        self._request.is_watched = config.hydra.runtime.choices["hydra/launcher"] == SERIAL
        if self._request.is_watched:
            task = partial(run_hydra_job, show=self._request.show)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep, or the unfinished jobs of one; `Request.sweep` is its plan afterwards.

        Raises:
            InputError: If no job can be composed, the folder holds a sweep already, or a resumed sweep's
                configuration or data has changed.
            SweepInterrupted: If it was stopped; `funrec resume` resumes it.
        """
        request = self._request
        overrides = [*(f"{key}={value}" for key, value in self._params.items()), *request.overrides]
        planned = list(self._plan(overrides))
        problems = [job.problem for job in planned if job.problem]
        if problems and len(problems) == len(planned):
            raise problems[0]
        check_one_protocol((plan.job.folder, plan.config) for plan in planned if not plan.problem)
        names = Counter(plan.job.folder for plan in planned)
        if (name := max(names, key=lambda name: names[name])) and names[name] > 1:
            raise InputError(f"hydra.sweep.subdir should give every job its own folder. Received: {name} for several.")
        folder = Path(self._config.hydra.sweep.dir)
        with leading(folder, is_new=request.resumed is None):
            sweep = request.sweep = Sweep(
                path=folder,
                command=list(request.command),
                started_in=os.getcwd(),
                allow=os.environ.get("FUNREC_ALLOW", ""),
                fail_fast=request.fail_fast,
                force=request.force,
                jobs=[plan.job for plan in planned],
            )
            if request.resumed:
                check_same_jobs(before := read_sweep(folder), sweep)
                wait_until_stopped(before)
                if not request.force:
                    check_unchanged(before, sweep, [plan.config for plan in planned])
            sweep.write()
            try:
                with reporting(sweep):
                    for plan in planned:
                        if plan.problem:
                            place = sweep.folder(plan.job)
                            place.mkdir(parents=True, exist_ok=True)
                            write_failure(place, str(plan.problem))
                    self._launch(sweep, [plan.job for plan in planned if not plan.problem])
            except KeyboardInterrupt:
                raise SweepInterrupted(sweep) from None

    def _plan(self, overrides: Sequence[str]) -> Iterable[_Planned]:
        """Compose every combination; the first job with the same data makes the baselines for all of them."""
        with_baselines: list[dict[str, Any]] = []
        jobs = [job for one in _combinations(reaching_overrides(overrides)) for job in self._day_by_day(one)]
        if len(jobs) >= MANY:
            sys.stderr.write(f"planning {len(jobs)} jobs\n")
        place, folder = self._config.hydra.sweep.dir, ""
        for number, (combination, goes_on) in enumerate(jobs):
            if goes_on:
                combination += [f"++trainer.start_from={quoted(os.path.relpath(Path(place, folder)))}"]
            try:
                with one_line_errors(combination):
                    composed = self._context.config_loader.load_sweep_config(self._config, combination)
                    with open_dict(composed):
                        composed.hydra.job.num = composed.hydra.job.id = number
                    with _current(composed):
                        folder, config = str(composed.hydra.sweep.subdir), to_plain(composed)
                check_settings(config)
            except InputError as error:
                yield _Planned(Job(number, str(number), combination, None, False), {}, error)
                continue
            data = {key: value for key, value in config.items() if key not in ("model", "weighting", "report")}
            makes_baselines = config["baselines"] and data not in with_baselines
            if makes_baselines:
                with_baselines.append(data)
            yield _Planned(Job(number, folder, combination, fingerprint(config), makes_baselines), config, None)

    def _day_by_day(self, combination: list[str]) -> list[tuple[list[str], bool]]:
        """Return the jobs that a combination makes, one or one a day; and whether each goes on from the one before."""
        if DAILY not in combination:
            return [(combination, False)]
        if not self._request.is_watched:
            raise InputError(f"hydra/launcher should be basic with {DAILY}, where each day needs the one before.")
        config = to_plain(self._context.config_loader.load_sweep_config(self._config, combination))
        return [(job, place > 0) for place, job in enumerate(daily_jobs(config, combination))]

    def _launch(self, sweep: Sweep, jobs: Sequence[Job]) -> None:
        """Have the launcher run the jobs that are not done.

        Some launchers (joblib's) raise when one of their processes is killed: the jobs that ran then have failed, and
        the others are launched again.
        """
        waiting = [job for job in jobs if not is_done(sweep, job)]
        for job in waiting:  # an earlier attempt's
            (sweep.folder(job) / FAILURE).unlink(missing_ok=True)
        while waiting:
            try:
                self._launcher.launch([self._launched(job) for job in waiting], initial_job_idx=waiting[0].number)
                return
            except Exception as error:
                log.debug("The launcher failed.", exc_info=True)
                left = [job for job in waiting if status(sweep.folder(job)).state == "absent"]
                for job in waiting:
                    if status(sweep.folder(job)).state == "interrupted":
                        write_failure(sweep.folder(job), f"its process died: {type(error).__name__}")
                if len(left) == len(waiting):
                    raise
                waiting = left

    def _launched(self, job: Job) -> list[str]:
        """Return a job's overrides, with where it runs: its number may be another among those that are left."""
        environment = [
            f"+hydra.job.env_set.{name}={quoted(os.environ[name])}" for name in PASSED_ON if os.environ.get(name)
        ]
        return [*job.overrides, f"hydra.sweep.subdir={quoted(job.folder)}", *environment]


def register() -> None:
    """Make `hydra/sweeper=funrec` and `hydra/launcher=process` known to Hydra.

    Hydra finds plug-ins in the package `hydra_plugins` alone, and imports all of them whenever any program that uses
    Hydra starts. Registered here, ours are imported by funrec alone, and also work in an editable install.
    """
    plugins = Plugins.instance()
    try:
        package = importlib.import_module("hydra_plugins")
    except ModuleNotFoundError:  # no plug-in is installed
        package = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
    place = ModuleType("hydra_plugins.funrec")
    vars(package)["funrec"] = place
    for plugin in (Sweeper, ProcessLauncher):
        known = type(plugin.__name__, (plugin,), {"__module__": place.__name__, "__doc__": plugin.__doc__})
        setattr(place, plugin.__name__, known)
        plugins.register(known)


def for_all_jobs(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that a sweep as a whole is composed with: those that need no swept choice to make sense.

    A key below a swept group (`experiment=a,b dataset.root=...`) is there in the jobs' configurations alone. A group
    (`experiment=baselines`) may say something about the sweep itself.
    """
    kept = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        is_nested = "." in override.key_or_group or "/" in override.key_or_group
        if override.is_hydra_override() or not (override.is_sweep_override() or is_nested):
            kept.append(str(override.input_line))
    return kept


def _combinations(overrides: Sequence[str]) -> list[list[str]]:
    """Return every combination of the values that overrides list; a later override of a key replaces an earlier one."""
    choices: dict[str, list[str]] = {}
    with one_line_errors(overrides):
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            key = override.get_key_element()
            if override.is_hydra_override():  # about the sweep, and among its own overrides
                continue
            if not override.is_sweep_override():
                choices[key] = [str(override.input_line)]
            elif override.is_discrete_sweep():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise InputError(f"{override.input_line} should list values. For intervals there is funrec tune.")
    return [list(combination) for combination in itertools.product(*choices.values())]


@contextmanager
def _current(config: DictConfig) -> Any:
    """Let `${hydra:...}` in a job's configuration mean that job."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
