"""How to search: the settings of `conf/tune.yaml`, checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Any

import numpy as np

from funrec.experiment.evaluation import validation_metrics
from funrec.metrics import Metric, evaluate, has_direction, is_higher_better
from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean

SAMPLERS = ("tpe", "random", "grid", "gp")
PRUNERS = ("none", "median", "hyperband")
DIRECTIONS = ("max", "min")
DEFAULT = "auc_macro"


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        objectives: By metric of the validation split, `max` or `min`.
        trials: How many trials in all, the first of which is the configuration as it is.
        sampler: One of `SAMPLERS`.
        pruner: One of `PRUNERS`.
        workers: Processes at a time on this machine.
        seed: Of the sampler.
        storage: Where Optuna keeps the trials: None for a SQLite file in the study's folder, `journal` for a file that
            several machines can write on a shared disk, or a database's URL.
        timeout: Seconds after which no new trial starts; None for no limit.
        confirm: Fresh seeds of the winner and of the configuration as it was.
    """

    objectives: dict[str, str]
    trials: int = 30
    sampler: str = "tpe"
    pruner: str = "none"
    workers: int = 1
    seed: int = 0
    storage: str | None = None
    timeout: float | None = None
    confirm: int = 0

    @property
    def signs(self) -> list[int]:
        """For every objective 1 if more is better, else -1."""
        return [1 if direction == "max" else -1 for direction in self.objectives.values()]

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change within a study."""
        fixed = ("objectives", "sampler", "pruner", "seed", "storage")
        return {key: value for key, value in asdict(self).items() if key in fixed}


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings that a configuration has under `search`, its space aside.

    Raises:
        InputError: If one of them is not what it should be.
    """
    known = [field.name for field in fields(Settings)]
    for key in values:
        if key not in known:
            raise InputError(f"search.{key}: no such key.{did_you_mean(key, [*known, 'space'])}")
    given = dict(values)
    for key, lowest in (("trials", 1), ("workers", 1), ("seed", 0), ("confirm", 0)):
        if key in given and (isinstance(value := given[key], bool) or not isinstance(value, int) or value < lowest):
            kind = "a positive whole number" if lowest else "a whole number, 0 or more"
            raise InputError(f"search.{key} should be {kind}. Received: {value}.")
    for key, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if key in given and given[key] not in choices:
            raise InputError(
                f"search.{key} should be one of {', '.join(choices)}. Received: {given[key]}."
                + did_you_mean(given[key], choices)
            )
    storage = given.get("storage")
    if storage not in (None, "journal") and not (isinstance(storage, str) and "://" in storage):
        raise InputError(
            f"search.storage should be null, journal or a database's URL, such as postgresql://host/name. Received: "
            f"{storage}."
        )
    timeout = given.get("timeout")
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool) and math.isfinite(timeout)
    if timeout is not None and (not is_number or timeout <= 0):
        raise InputError(f"search.timeout should be a positive number of seconds, or null. Received: {timeout}.")
    if given.get("sampler") == "gp" and find_spec("torch") is None:
        raise InputError(
            "search.sampler=gp should find PyTorch, which its Gaussian processes are fitted with. It is missing: pip "
            "install torch, or choose search.sampler=tpe."
        )
    asked = given.pop("objectives", None)
    objectives = _read_objectives([DEFAULT] if asked is None else asked)
    return Settings(objectives=objectives, **given)


def check_objectives(
    objectives: Collection[str], tasks: Sequence[Task], has_groups: bool, metrics: Sequence[Metric]
) -> None:
    """Check that every run reports the objectives.

    Raises:
        InputError: If it does not, with the nearest metric.
    """
    known = reported_metrics(tasks, has_groups, metrics)
    for name in objectives:
        if name in known:
            continue
        if "@" in name:
            raise InputError(
                f"search.objectives should be metrics of the validation split: what a tuner chose on tests nothing "
                f"any more. Received: {name}. Try {name.partition('@')[0]}."
            )
        raise InputError(f"search.objectives: no run reports {name}.{did_you_mean(name, known)}")


def reported_metrics(tasks: Sequence[Task], has_groups: bool, metrics: Sequence[Metric]) -> list[str]:
    """Return the metrics of a run's validation split that can be an objective."""
    labels = np.tile(np.array([[0.0], [1.0]], np.float32), (2, len(tasks)))
    groups = np.zeros(len(labels), np.int64) if has_groups else None
    measured = [metric for metric in metrics if has_groups or not metric.needs_groups]
    found = evaluate(tasks, labels, labels, groups=groups, metrics=measured)
    return [name for name in (*found.metrics, *found.absent) if has_direction(name)]


def epoch_metrics(tasks: Sequence[Task], has_groups: bool, metrics: Sequence[Metric]) -> list[str]:
    """Return the metrics that every epoch ends with, which alone a pruner can go by."""
    return [name for name in validation_metrics(tasks, has_groups, metrics) if has_direction(name)]


def _read_objectives(given: Any) -> dict[str, str]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        objectives = {str(name): direction for name, direction in given.items()}
    elif isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        objectives = {name: "max" if is_higher_better(name) else "min" for name in given}
        if len(objectives) < len(given):
            raise InputError(f"search.objectives should name every metric once. Received: {', '.join(given)}.")
    else:
        objectives = {}
    if not objectives:
        raise InputError(f"search.objectives should name at least one metric, as in [auc_macro]. Received: {given}.")
    for name, direction in objectives.items():
        if direction not in DIRECTIONS:
            raise InputError(f"search.objectives.{name} should be max or min. Received: {direction}.")
    return objectives
