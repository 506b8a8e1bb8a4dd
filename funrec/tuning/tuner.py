"""The story of a study: begun or joined, worked on until all trials are done, and summed up."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.experiment.baselines import is_popularity
from funrec.experiment.settings import check_settings
from funrec.runs import folder as run_folder
from funrec.tuning.plan import Plan, differences, make_plan, read_plan
from funrec.tuning.progress import StudyProgress
from funrec.tuning.results import RUNNING, outcomes, write_trials
from funrec.tuning.running import run_trial
from funrec.tuning.study import StudyFolder
from funrec.tuning.workers import Workers
from funrec.utils.errors import InputError
from funrec.utils.logging import load_tensorflow
from funrec.utils.signals import Interruption

log = logging.getLogger("funrec")

#: Seconds between looks at what other processes do.
INTERVAL = 0.3


def begin(
    overrides: Sequence[str], folders: Sequence[Path] = (), parent: Path = Path("outputs", "studies")
) -> StudyFolder:
    """Begin a study.

    Args:
        overrides: Those of a run, which all trials share, and those that begin with `search`.
        folders: Folders of one's own configuration files.
        parent: Where the study's folder goes.

    Raises:
        InputError: If a key or a value is not what it should be.
    """
    plan = make_plan(overrides, folders)
    check_plan(plan)
    path = run_folder.new_run_folder(parent, f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    return StudyFolder.create(path, plan)


def join(path: Path, overrides: Sequence[str] = (), force: bool = False) -> StudyFolder:
    """Join a study that somebody began, here or elsewhere, running or not.

    Args:
        path: Its folder.
        overrides: `search.trials`, `.workers`, `.timeout` and `.confirm` may be others than before.
        force: Whether to go on although the configuration files have changed.

    Raises:
        InputError: If there is no study, or its space, its objectives or its configuration changed since.
    """
    path = path.resolve()
    stored = read_plan(path)
    if os.path.isdir(stored.started_in):
        os.chdir(stored.started_in)
    folders = [Path(folder) for folder in stored.folders]
    given = [override.partition("=")[0].lstrip("+") for override in overrides]
    kept = [asked for asked in stored.asked if asked.partition("=")[0].lstrip("+") not in given]
    now = make_plan([*stored.fixed, *kept, *overrides], folders)
    if (found := differences(stored, now)) and not force:
        shown = "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
        raise InputError(f"{path} should be gone on with as it was begun: {shown}. Put it back, or begin a new study.")
    if overrides and not found:
        now.write(path)
        return StudyFolder(path, now)
    return StudyFolder(path, stored)


def run_study(study: StudyFolder, live: bool = False, force: bool = False) -> None:
    """Work on a study until all its trials are done, in this process or in `search.workers` others.

    Args:
        study: The study.
        live: Whether somebody watches a terminal.
        force: Whether to go on with trials that were begun with other code or data.

    Raises:
        InputError: If a trial cannot be written, or the workers cannot work.
        KeyboardInterrupt: If somebody stops it; every trial that ran has its checkpoint.
    """
    workers = study.plan.settings.workers
    with Interruption(), StudyProgress(study, workers, bar=live and workers > 1) as progress:
        is_waiting = False
        while True:
            if workers > 1:
                _run_in_workers(study, workers, progress, force)
            else:
                work_on(study, live, force, progress)
            if not study.running:
                return
            if not is_waiting:
                count = study.running
                progress.say(f"Waiting for {count} trial{'s' * (count > 1)} that run{'s' * (count == 1)} elsewhere.")
                is_waiting = True
            while study.running and not study.has_work():
                time.sleep(INTERVAL)
                progress.update()


def work_on(study: StudyFolder, live: bool = False, force: bool = False, progress: StudyProgress | None = None) -> None:
    """Take one trial after the other, in this process, until there are no more to take."""
    while (work := study.claim()) is not None:
        run_trial(study, work, live, force)
        write_trials(study)
        if progress:
            progress.update()


def check_plan(plan: Plan) -> None:
    """Check that the configuration as it is can be trained, and with each end of each range and each choice.

    Raises:
        InputError: If it cannot; a combination of values may still fail, and its trial then does.
    """
    if is_popularity(plan.config):
        raise InputError("model should have something to tune. Received: popularity, which is not trained.")
    _check_config(plan.config)
    for key, entry in plan.space.items():
        for value in entry.ends:
            try:
                _check_config(_with(plan, key, value))
            except InputError as error:
                raise InputError(f"search.space.{key} should hold values that can be trained with: {error}") from error


def _run_in_workers(study: StudyFolder, count: int, progress: StudyProgress, force: bool) -> None:
    workers = Workers(study.path, count, force)
    try:
        ended = 0
        while True:
            progress.update()
            workers.collect()
            done = sum(outcome.state != RUNNING for outcome in outcomes(study))
            if done > ended:
                ended, workers.deaths = done, 0
            if len(workers.pids) < count and study.has_work():
                workers.fill(min(count, len(workers.pids) + study.total - done))
            if not workers.pids:
                return
            time.sleep(INTERVAL)
    finally:
        workers.stop()
        progress.update()


def _with(plan: Plan, key: str, value: Any) -> dict[str, Any]:
    """Return the configuration with one other value; one of a whole group is composed."""
    if plan.start[key] == value:
        return plan.config
    *path, last = key.split(".")
    config = copy.deepcopy(plan.config)
    node: Any = config
    for part in path:
        node = node[part]
    if "/" in key or (isinstance(node.get(last), Mapping) and isinstance(value, str)):
        return plan.compose(plan.overrides({key: value}))
    node[last] = value
    return config


def _check_config(config: Mapping[str, Any]) -> None:
    check_settings(config)
    dataset = build(config["dataset"], Dataset, "dataset")
    dataset.sources()
    load_tensorflow()
    from funrec.experiment import fitting

    fitting.check_parts(config, dataset)
