"""What a study searches, and how: read from a command's overrides, kept in the study's folder."""

from __future__ import annotations

import difflib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from funrec.config.build import ALLOW_VARIABLE, build
from funrec.config.catalogue import own_folders
from funrec.config.compose import compose, compose_with_choices, parse_override
from funrec.data.datasets.base import Dataset
from funrec.experiment.evaluation import validation_metrics
from funrec.metrics import Metric, build_metrics, evaluate, has_direction, is_higher_better
from funrec.schema import Task
from funrec.tuning.space import RANGE_KEYS, Choices, Space, grid_size, read_space, to_override, write_space
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import flatten, read_json, write_json
from funrec.utils.specs import PositiveInt, WholeNumber, check, worded

STUDY = "study.json"
FORMAT = 2
SPACE = "search.space."

#: Keys that change what is measured, or how lucky it is, and so are nothing to choose by a metric.
NOT_TO_SEARCH = ("seed", "baselines", "report", "metrics", "tuned_on", "dataset.split", "dataset.rows")

#: Recorded in a run whose values a tuner chose, so that every table says what they were chosen on.
TUNED = "tuned_on=valid"

Storage = Annotated[
    str,
    worded(
        "journal, a database's URL such as postgresql://host/name,", lambda text: text == "journal" or "://" in text
    ),
]
Seconds = Annotated[float, worded("a positive number of seconds", lambda seconds: seconds > 0)]


@dataclass(frozen=True)
class Settings:
    """How to search; conf/tune.yaml says what each setting means.

    Attributes:
        objectives: By metric of the validation split, `max` or `min`.
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


@dataclass(frozen=True)
class Plan:
    """A study, before its first trial.

    Attributes:
        search: Name of the file under `conf/search/`.
        settings: How to search.
        space: Where.
        fixed: Overrides that all trials have in common.
        asked: Overrides of the search.
        folders: Folders of your own configuration files.
        start: The value that every key of the space has in the configuration as it is.
        config: The configuration as it is, without the tuner: that of trial 0.
        allow: Packages that configurations may name classes from.
        started_in: The folder that relative paths start from.
        name: The study's name in its storage, which other studies may share.
        notes: What the user should know, a line each.
    """

    search: str
    settings: Settings
    space: Space
    fixed: list[str]
    asked: list[str]
    folders: list[str]
    start: dict[str, Any]
    config: dict[str, Any]
    allow: str = ""
    started_in: str = ""
    name: str = field(default_factory=lambda: f"funrec-{secrets.token_hex(8)}", compare=False)
    notes: list[str] = field(default_factory=list, compare=False)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of the run that has these values; no values stand for the configuration as it is."""
        if not values:
            return list(self.fixed)
        return [*self.fixed, *(to_override(key, value) for key, value in values.items()), TUNED]

    def write(self, folder: Path) -> None:
        """Write `study.json`, whole or not at all."""
        plain = asdict(self) | {"space": write_space(self.space), "format": FORMAT}
        write_json(folder / STUDY, {key: value for key, value in plain.items() if key != "notes"})


def read_plan(folder: Path) -> Plan:
    """Return the plan of a study's folder."""
    try:
        stored = read_json(folder / STUDY)
        if stored.pop("format") != FORMAT:
            raise InputError(
                f"{folder} should be a study of this version of funrec. Received: one of version 0.1, whose runs can "
                "be compared and reported. Begin a new study."
            )
        settings, space = Settings(**stored.pop("settings")), read_space(stored.pop("space"))
        return Plan(settings=settings, space=space, **stored)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} should be the folder of a study. Received: no {STUDY} there.") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / STUDY} is damaged: {error}. Start a new study.") from error


def make_plan(overrides: Sequence[str]) -> Plan:
    """Return the plan that a command asks for.

    Args:
        overrides: Those of a run, for all trials, and those that begin with `search`.
    """
    parsed = [(override, *parse_override(override)) for override in overrides]
    asked = [override for override, key, _, _ in parsed if key == "search" or key.startswith("search.")]
    fixed = [override for override in overrides if override not in asked]
    config, choices = compose_with_choices(fixed)
    named = [str(value) for _, key, value, _ in parsed if key == "search"]
    name = named[-1] if named else _own_search(choices["model"])
    found = compose([f"search={name}"], "tune")["search"]
    entries = found.pop("space") or {}
    for text, key, value, is_deleted in parsed:
        if f"{key}.".startswith(SPACE):
            entries = _change(entries, key.removeprefix("search.space").lstrip("."), value, is_deleted, text)
        elif key.startswith("search."):
            found[key.removeprefix("search.")] = value
    notes: list[str] = []
    settings, space = _check_metrics(read_settings(found), config, notes), read_space(entries)
    for key in {key for text, key, _, _ in parsed if text in fixed}:
        if key in space:
            raise InputError(f"{key} should be fixed or searched. Received: both. Drop it, or add '~{SPACE}{key}'.")
    start = {key: _starting_value(key, config, choices) for key in space}
    _hold_start(space, start, notes)
    if settings.sampler == "grid" and (points := grid_size(space)) > settings.trials:
        notes.append(f"The grid has {points} points, of which {settings.trials} trials are a random part.")
    places, allow, here = map(str, own_folders()), os.environ.get(ALLOW_VARIABLE, ""), str(Path.cwd())
    return Plan(name, settings, space, fixed, asked, list(places), start, config, allow, here, notes=notes)


def differences(stored: Plan, now: Plan) -> list[str]:
    """Return what may not change within a study and did, a phrase each."""
    sides = []
    for plan in (stored, now):
        fixed = ("objectives", "sampler", "pruner", "seed", "storage")
        settings = {key: value for key, value in asdict(plan.settings).items() if key in fixed}
        parts = ({"space": write_space(plan.space)}, settings, plan.config)
        sides.append({key: json.dumps(value, default=str) for part in parts for key, value in flatten(part)})
    before, after = sides
    return [
        f"{key} was {before.get(key, 'not there')}, is {after.get(key, 'not there')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings that a configuration has under `search`, its space aside."""
    asked = values.get("objectives")
    objectives = _read_objectives(["auc_macro"] if asked is None else asked)
    settings = Settings(**check(Settings, {**values, "objectives": objectives}, "search"))
    if settings.sampler == "gp" and find_spec("torch") is None:
        raise InputError(
            "search.sampler=gp should find PyTorch, which its Gaussian processes are fitted with. It is missing: pip "
            "install torch, or choose search.sampler=tpe."
        )
    return settings


def _read_objectives(given: Any) -> dict[str, str]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping) and given:
        return {str(name): direction for name, direction in given.items()}
    if not isinstance(given, Sequence) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(f"search.objectives should name at least one metric, as in [auc_macro]. Received: {given}.")
    if len(set(given)) < len(given):
        raise InputError(f"search.objectives should name every metric once. Received: {', '.join(given)}.")
    return {name: "max" if is_higher_better(name) else "min" for name in given}


def _check_metrics(settings: Settings, config: Mapping[str, Any], notes: list[str]) -> Settings:
    """Check that runs report the objectives, and note where there is nothing to prune by."""
    dataset = build(config["dataset"], Dataset, "dataset")
    tasks, has_groups, metrics = dataset.tasks, dataset.group is not None, build_metrics(config["metrics"])
    known = reported_metrics(tasks, has_groups, metrics)
    for name in settings.objectives:
        if name not in known and "@" in name:
            raise InputError(
                f"search.objectives should be metrics of the validation split: what a tuner chose on tests nothing "
                f"any more. Received: {name}. Try {name.partition('@')[0]}."
            )
        if name not in known:
            raise InputError(f"search.objectives: no run reports {name}.{did_you_mean(name, known)}")
    if settings.pruner == "none":
        return settings
    first = next(iter(settings.objectives))
    if len(settings.objectives) > 1:
        notes.append("No pruning: Optuna prunes by one objective, and there are several.")
    elif first not in validation_metrics(tasks, has_groups, metrics):
        notes.append(f"No pruning: {first} is measured at the end of a run, not after every epoch.")
    elif config["trainer"]["epochs"] == 1:
        notes.append("No pruning: runs have one epoch.")
    else:
        return settings
    return replace(settings, pruner="none")


def reported_metrics(tasks: Sequence[Task], has_groups: bool, metrics: Sequence[Metric]) -> list[str]:
    """Return the metrics of a run's validation split that can be an objective."""
    labels = np.tile(np.array([[0.0], [1.0]], np.float32), (2, len(tasks)))
    groups = np.zeros(len(labels), np.int64) if has_groups else None
    measured = [metric for metric in metrics if has_groups or not metric.needs_groups]
    found = evaluate(tasks, labels, labels, groups=groups, metrics=measured)
    return [name for name in (*found.metrics, *found.absent) if has_direction(name)]


def _own_search(model: str) -> str:
    places = (files("funrec.conf"), *own_folders())
    return model if any(place.joinpath("search", f"{model}.yaml").is_file() for place in places) else "default"


def _change(entries: dict[str, Any], key: str, value: Any, is_deleted: bool, text: str) -> dict[str, Any]:
    """Return the entries of a space with one override; their keys have dots, which Hydra would take for a path."""
    if not key:
        return dict(value or {}) if isinstance(value, Mapping) or value is None else value
    if is_deleted:
        if key not in entries:
            raise InputError(f"{text}: no such key in the space.{did_you_mean(key, entries)}")
        return {name: entry for name, entry in entries.items() if name != key}
    parent, _, part = key.rpartition(".")
    if part in (*RANGE_KEYS, "choices") and parent in entries:
        return entries | {parent: {**entries[parent], part: value}}
    return entries | {key: value}


def _starting_value(key: str, config: Mapping[str, Any], choices: Mapping[str, str]) -> Any:
    if any(f"{key}.".startswith(f"{closed}.") for closed in NOT_TO_SEARCH):
        raise InputError(f"search.space.{key} should not be searched: it changes what is measured. Fix it instead.")
    known = {**dict(flatten(config, inner=True)), **choices}
    if key not in known:
        # The same last part elsewhere is what a key of another model most often means.
        near = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
        near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        raise InputError(f"search.space.{key}: no such key in the configuration.{did_you_mean(key, near or known)}")
    return known[key]


def _hold_start(space: Space, start: Mapping[str, Any], notes: list[str]) -> None:
    """Let choices hold the value that the configuration has, and note where a range does not."""
    for key, value in start.items():
        if (entry := space[key]).holds(value):
            continue
        if isinstance(entry, Choices):
            space[key] = Choices((value, *entry.values))
            notes.append(f"search.space.{key} also gets {value}, the value it starts from.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            notes.append(f"{key} starts from {value}, outside of its range.")
        else:
            raise InputError(
                f"search.space.{key} should hold the value it starts from, {json.dumps(value)}. Received: a range "
                "of numbers. Give it choices."
            )
