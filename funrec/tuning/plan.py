"""What a study searches, and how: read from a command's overrides, kept in the study's folder."""

from __future__ import annotations

import difflib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from funrec.config.build import ALLOW_VARIABLE, build
from funrec.config.compose import compose, compose_with_choices, parse_override
from funrec.data.datasets.base import Dataset
from funrec.metrics import build_metrics
from funrec.tuning.settings import Settings, check_objectives, epoch_metrics, read_settings
from funrec.tuning.space import (
    RANGE_KEYS,
    Choices,
    Space,
    grid_size,
    read_space,
    to_override,
    write_space,
)
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import read_json, write_json

STUDY = "study.json"
FORMAT = 2
SPACE = "search.space."

#: Keys that change what is measured, or how lucky it is, and so are nothing to choose by a metric.
NOT_TO_SEARCH = ("seed", "baselines", "report", "metrics", "tuned_on", "dataset.split", "dataset.rows")

#: Recorded in a run whose values a tuner chose, so that every table says what they were chosen on.
TUNED = "tuned_on=valid"


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

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the configuration of a run."""
        return compose(overrides, [Path(folder) for folder in self.folders])

    def write(self, folder: Path) -> None:
        """Write `study.json`, whole or not at all."""
        plain = asdict(self) | {"space": write_space(self.space), "format": FORMAT}
        write_json(folder / STUDY, {key: value for key, value in plain.items() if key != "notes"})


def read_plan(folder: Path) -> Plan:
    """Return the plan of a study's folder.

    Raises:
        InputError: If there is none.
    """
    try:
        stored = read_json(folder / STUDY)
        if stored["format"] != FORMAT:
            raise InputError(
                f"{folder} should be a study of this version of funrec. Received: one of version 0.1, whose runs can "
                "be compared and reported. Begin a new study."
            )
        return Plan(
            settings=Settings(**stored["settings"]),
            space=read_space(stored["space"]),
            **{
                key: stored[key]
                for key in ("search", "fixed", "asked", "folders", "start", "config", "allow", "started_in", "name")
            },
        )
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} should be the folder of a study. Received: no {STUDY} there.") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / STUDY} is damaged: {error}. Start a new study.") from error


def make_plan(overrides: Sequence[str], folders: Sequence[Path] = ()) -> Plan:
    """Return the plan that a command asks for.

    Args:
        overrides: Those of a run, for all trials, and those that begin with `search`.
        folders: Folders of your own configuration files.

    Raises:
        InputError: If a key or a value is not what it should be.
    """
    parsed = [(override, *parse_override(override)) for override in overrides]
    asked = [override for override, key, _, _ in parsed if key == "search" or key.startswith("search.")]
    fixed = [override for override in overrides if override not in asked]
    config, choices = compose_with_choices(fixed, folders)
    named = [str(value) for _, key, value, _ in parsed if key == "search"]
    name = named[-1] if named else _own_search(choices["model"], folders)
    found = compose([f"search={name}"], folders, "tune")["search"]
    entries = found.pop("space") or {}
    for text, key, value, is_deleted in parsed:
        if f"{key}.".startswith(SPACE):
            entries = _change(entries, key.removeprefix("search.space").lstrip("."), value, is_deleted, text)
        elif key.startswith("search."):
            found[key.removeprefix("search.")] = value
    settings, space = read_settings(found), read_space(entries)
    start = {key: _starting_value(key, config, choices) for key in space}
    fixed_keys = {key for text, key, _, _ in parsed if text in fixed}
    for key in space:
        if key in fixed_keys:
            raise InputError(f"{key} should be fixed or searched. Received: both. Drop it, or add '~{SPACE}{key}'.")
    notes = []
    for key, entry in space.items():
        if entry.holds(start[key]):
            continue
        if isinstance(entry, Choices):
            space[key] = Choices((start[key], *entry.values))
            notes.append(f"search.space.{key} also gets {start[key]}, the value it starts from.")
        elif isinstance(start[key], int | float) and not isinstance(start[key], bool):
            notes.append(f"{key} starts from {start[key]}, outside of its range.")
        else:
            raise InputError(
                f"search.space.{key} should hold the value it starts from, {json.dumps(start[key])}. Received: a range "
                "of numbers. Give it choices."
            )
    if settings.sampler == "grid":
        points = grid_size(space)
        if points > settings.trials:
            notes.append(f"The grid has {points} points, of which {settings.trials} trials are a random part.")
    settings = _check_objectives(settings, config, notes)
    places = [str(folder.resolve()) for folder in folders]
    allow, here = os.environ.get(ALLOW_VARIABLE, ""), str(Path.cwd())
    return Plan(name, settings, space, fixed, asked, places, start, config, allow, here, notes=notes)


def differences(stored: Plan, now: Plan) -> list[str]:
    """Return what may not change within a study and did, a phrase each."""
    sides = []
    for plan in (stored, now):
        sides.append(
            dict(_flatten({"space": write_space(plan.space)}))
            | dict(_flatten(plan.settings.identity))
            | dict(_flatten(plan.config))
        )
    before, after = sides
    return [
        f"{key} was {before.get(key, 'not there')}, is {after.get(key, 'not there')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _check_objectives(settings: Settings, config: Mapping[str, Any], notes: list[str]) -> Settings:
    """Check that runs report the objectives, and note where there is nothing to prune by."""
    dataset = build(config["dataset"], Dataset, "dataset")
    has_groups = dataset.group is not None
    metrics = build_metrics(config["metrics"])
    check_objectives(settings.objectives, dataset.tasks, has_groups, metrics)
    if settings.pruner == "none":
        return settings
    first = next(iter(settings.objectives))
    if len(settings.objectives) > 1:
        notes.append("No pruning: Optuna prunes by one objective, and there are several.")
    elif first not in epoch_metrics(dataset.tasks, has_groups, metrics):
        notes.append(f"No pruning: {first} is measured at the end of a run, not after every epoch.")
    elif config["trainer"]["epochs"] == 1:
        notes.append("No pruning: runs have one epoch.")
    else:
        return settings
    return replace(settings, pruner="none")


def _own_search(model: str, folders: Sequence[Path]) -> str:
    places = [folder.joinpath("search", f"{model}.yaml") for folder in folders]
    is_there = files("funrec.conf").joinpath("search", f"{model}.yaml").is_file()
    return model if is_there or any(place.is_file() for place in places) else "default"


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
    for closed in NOT_TO_SEARCH:
        if key == closed or key.startswith(f"{closed}."):
            raise InputError(f"search.space.{key} should not be searched: it changes what is measured. Fix it instead.")
    if key in choices:
        return choices[key]
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = [*_keys(config), *choices]
            last = key.rpartition(".")[2]
            # The same last part elsewhere is what a key of another model most often means.
            near = [name for name in known if name.rpartition(".")[2] == last]
            if not near:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = did_you_mean(key, near or known)
            raise InputError(f"search.space.{key}: no such key in the configuration.{hint}")
        node = node[part]
    return node


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _keys(child, f"{prefix}{name}.")


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from _flatten(child, f"{prefix}{name}.")
    else:
        yield prefix.rstrip("."), json.dumps(node, default=str)
