"""How to search: the settings of `conf/tune.yaml`, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import numpy as np

from funrec.experiment.evaluation import validation_metrics
from funrec.metrics import Metric, evaluate, has_direction, is_higher_better
from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import PositiveInt, WholeNumber, check, worded

Storage = Annotated[
    str,
    worded(
        "journal, a database's URL such as postgresql://host/name,", lambda text: text == "journal" or "://" in text
    ),
]
Seconds = Annotated[float, worded("a positive number of seconds", lambda seconds: seconds > 0)]
DEFAULT = "auc_macro"


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        objectives: By metric of the validation split, `max` or `min`.
        trials: How many trials in all, the first of which is the configuration as it is.
        sampler: Of Optuna's samplers.
        pruner: Of Optuna's pruners.
        workers: Processes at a time on this machine.
        seed: Of the sampler.
        storage: Where Optuna keeps the trials: None for a SQLite file in the study's folder, `journal` for a file that
            several machines can write on a shared disk, or a database's URL.
        timeout: Seconds after which no new trial starts; None for no limit.
        confirm: Fresh seeds of the winner and of the configuration as it was.
    """

    objectives: dict[str, Literal["max", "min"]]
    trials: PositiveInt = 30
    sampler: Literal["tpe", "random", "grid", "gp"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    workers: PositiveInt = 1
    seed: WholeNumber = 0
    storage: Storage | None = None
    timeout: Seconds | None = None
    confirm: WholeNumber = 0

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
    asked = values.get("objectives")
    objectives = _read_objectives([DEFAULT] if asked is None else asked)
    given = check(Settings, {**values, "objectives": objectives}, "search")
    if given.get("sampler") == "gp" and find_spec("torch") is None:
        raise InputError(
            "search.sampler=gp should find PyTorch, which its Gaussian processes are fitted with. It is missing: pip "
            "install torch, or choose search.sampler=tpe."
        )
    return Settings(**given)


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
    return objectives
