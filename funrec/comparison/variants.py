"""Find runs, read their records, and group those that differ in seed alone into variants."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from funrec.runs import folder as run_folder
from funrec.runs import record as records
from funrec.runs.protocol import check_one_protocol
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import flatten

#: Where the same data lies says nothing about the variant, so that of a path only its last part counts.
PATHS = ("root", "path", "train", "valid", "test", "calibrate")
NOT_THE_VARIANT = ("seed", "protocol", "report", "baselines", "tracking", "tuned_on")
#: Keys of `metrics` that ask for a closer look at the same scores.
CLOSER_LOOKS = ("slices", "extra")


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its folder, and what `record.json` holds."""

    path: Path
    record: Mapping[str, Any]

    @property
    def tasks(self) -> list[str]:
        """The run's tasks."""
        return list(self.record["tasks"])

    @property
    def rows(self) -> Mapping[str, str]:
        """By evaluation split, the fingerprint of its rows."""
        return self.record["row_fingerprint"]

    @property
    def gauc_weight(self) -> str:
        """What a user counts in a GAUC."""
        return str((self.record["config"].get("metrics") or {}).get("gauc_weight", "impressions"))

    @property
    def history(self) -> str | None:
        """How its histories look back, as settings; None without any."""
        dataset = self.record["config"].get("dataset") or {}
        features = [feature for feature in (dataset.get("features") or {}).values() if isinstance(feature, Mapping)]
        if all(feature.get("kind") != "history" for feature in features):
            return None
        settings = dataset.get("history") or {}
        return f"until={settings.get('until') or 'row'}, lag={settings.get('lag')}"


@dataclass(eq=False)
class Variant:
    """What to run: a configuration without its seed.

    Attributes:
        model: The label of the model.
        runs: One run per seed.
        settings: What tells it from other variants, by override key: `{"weighting": "pareto"}`.
    """

    model: str
    runs: list[RunRecord]
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.model} ({settings})" if settings else self.model


@dataclass(frozen=True)
class Found:
    """The finished runs under some paths, the folders of the others with their states, and why records are damaged."""

    runs: list[RunRecord]
    unfinished: list[str]
    damaged: list[str]


def find(paths: Iterable[Any]) -> Found:
    """Read the records of all runs under the paths: run folders, sweep folders, globs, or `Run` objects."""
    folders: dict[Path, Path] = {}
    for path in paths:
        for folder in run_folder.find_runs(getattr(path, "path", path)):
            folders.setdefault(folder.resolve(), folder)
    found = Found([], [], [])
    for folder in folders.values():
        status = run_folder.status(folder)
        if status.state != "finished":
            found.unfinished.append(f"{folder} ({status.state}{': ' + status.reason if status.reason else ''})")
            continue
        try:
            record = records.read(folder)
        except InputError as error:
            found.damaged.append(str(error))
            continue
        rows = record.get("row_fingerprint")
        if record["tasks"] and isinstance(rows, dict) and rows:
            found.runs.append(RunRecord(folder, record))
            continue
        problem = "it has no task" if rows else "it does not say which rows were scored (row_fingerprint)"
        found.damaged.append(f"{folder / 'record.json'} is damaged: {problem}. Run it again or leave it out.")
    return found


def group(runs: Sequence[RunRecord]) -> tuple[list[Variant], list[str]]:
    """Return runs that differ in seed alone as variants, in the order of their first runs, and notes for the reader.

    Of two runs of one variant and seed the one that finished last counts: a run repeated is not another seed.
    """
    variants: dict[str, Variant] = {}
    notes = []
    for run in runs:
        key = json.dumps([run.record["label"], _variant(run.record["config"])], sort_keys=True, default=str)
        variants.setdefault(key, Variant(str(run.record["label"]), [])).runs.append(run)
    for variant in variants.values():
        latest: dict[Any, RunRecord] = {}
        for run in sorted(variant.runs, key=lambda run: str(run.record.get("finished"))):
            latest[run.record.get("seed", str(run.path))] = run
        if repeated := len(variant.runs) - len(latest):
            times = "1 run repeats" if repeated == 1 else f"{repeated} runs repeat"
            notes.append(f"{times} a seed of the same variant ({variant.model}): the latest counts.")
        variant.runs = [latest[seed] for seed in sorted(latest, key=str)]
        if len({run.record.get("source_hash") for run in variant.runs}) > 1:
            notes.append(f"The seeds of {variant.model} ran on different versions of funrec's code.")
    _tell_apart(list(variants.values()))
    return list(variants.values()), notes


def check_comparable(runs: Sequence[RunRecord], mixed_history: bool = False) -> None:
    """Check that runs have one protocol and the same tasks, weigh the GAUC alike, and look back alike in histories."""
    check_one_protocol((run.path, run.record["config"]) for run in runs)
    first = runs[0]
    for run in runs[1:]:
        if set(run.tasks) != set(first.tasks):
            raise InputError(
                f"Runs to compare should have the same tasks. {first.path} has {', '.join(first.tasks)}; {run.path} "
                f"has {', '.join(run.tasks)}. Compare them separately."
            )
        if run.gauc_weight != first.gauc_weight:
            raise InputError(
                f"Runs to compare should have one metrics.gauc_weight. {first.path} has {first.gauc_weight}; "
                f"{run.path} has {run.gauc_weight}. Compare them separately."
            )
    looking_back = [run for run in runs if run.history is not None and not mixed_history]
    for run in looking_back[1:]:
        if run.history != (other := looking_back[0]).history:
            raise InputError(
                f"Runs to compare should have one dataset.history. {other.path} has {other.history}; {run.path} has "
                f"{run.history}. Compare them separately, or pass --mixed-history."
            )


def match_baseline(variants: Sequence[Variant], baseline: str | Path) -> list[Variant]:
    """Return the variants that a name stands for: a model's label, settings such as `weighting=fixed`, or a run's path.

    Raises:
        InputError: If it matches none, with the nearest names.
    """
    name = str(baseline)
    parts = [part.partition("=") for part in name.split(",")]
    wanted = {key.strip(): value.strip() for key, _, value in parts} if "=" in name else {"model": name}
    known = [{"model": variant.model, **variant.settings} for variant in variants]
    matching = [all(names.get(key) == value for key, value in wanted.items()) for names in known]
    if not any(matching):
        folders = {folder.resolve() for folder in runs_at(baseline)}
        matching = [any(run.path.resolve() in folders for run in variant.runs) for variant in variants]
    if not any(matching):
        labels = dict.fromkeys(names["model"] for names in known)
        labels |= dict.fromkeys(f"{key}={value}" for variant in variants for key, value in variant.settings.items())
        raise InputError(
            f"The baseline should be a model, a setting or a run's path. Received: {name}.{did_you_mean(name, labels)}"
        )
    return [variant for variant, is_match in zip(variants, matching, strict=True) if is_match]


def runs_at(path: str | Path) -> list[Path]:
    """Return the run folders under what may be a path; an empty list if it is none or holds no run."""
    try:
        return run_folder.find_runs(path)
    except InputError:
        return []


def partner(variant: Variant, baselines: Sequence[Variant]) -> Variant | None:
    """Return the baseline to compare a variant with: the only one, or of several the one closest in settings.

    None where two are equally close: `mmoe` with its weighting swept against `shared_bottom` with its weighting swept
    compares like with like.
    """
    if len(baselines) == 1:
        return baselines[0]
    names = {"model": variant.model, **variant.settings}
    shared = [
        sum({"model": baseline.model, **baseline.settings}.get(key) == value for key, value in names.items())
        for baseline in baselines
    ]
    best = max(shared)
    return baselines[shared.index(best)] if shared.count(best) == 1 else None


def _variant(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that makes a variant."""
    variant = {key: value for key, value in config.items() if key not in NOT_THE_VARIANT}
    if isinstance(metrics := variant.get("metrics"), Mapping):
        variant["metrics"] = {key: value for key, value in metrics.items() if key not in CLOSER_LOOKS}
    dataset = variant.get("dataset")
    if isinstance(dataset, Mapping):
        variant["dataset"] = {key: _last_part(value) if key in PATHS else value for key, value in dataset.items()}
    return variant


def _last_part(value: Any) -> Any:
    if isinstance(value, list):
        return [_last_part(item) for item in value]
    return Path(value).name if isinstance(value, str) else value


def _tell_apart(variants: Sequence[Variant]) -> None:
    """Give every variant the settings in which variants differ: those asked for, and others only if needed."""
    configs = [_variant(variant.runs[0].record["config"]) for variant in variants]
    asked = [_overrides(variant.runs[0].record.get("overrides") or []) for variant in variants]
    skipped = {"model", *NOT_THE_VARIANT, *(f"dataset.{key}" for key in PATHS)}
    skipped |= {f"metrics.{key}" for key in CLOSER_LOOKS}
    keys = [
        key
        for key in dict.fromkeys(key for overrides in asked for key in overrides)
        if key not in skipped
        and key.partition(".")[0] not in NOT_THE_VARIANT
        and not key.startswith(("metrics/extra", "metrics.extra."))
    ]
    for key in keys:
        values = [
            overrides[key] if key in overrides else _configured(config, key)
            for overrides, config in zip(asked, configs, strict=True)
        ]
        if len(set(values)) > 1:
            for variant, value in zip(variants, values, strict=True):
                variant.settings[key] = value
    flat = [{key: _text(value, key) for key, value in flatten(config) if value != {}} for config in configs]
    for key in dict.fromkeys(key for values in flat for key in values):
        names = [str(variant) for variant in variants]
        clashing = [place for place, name in enumerate(names) if names.count(name) > 1]
        if len({flat[place].get(key, "") for place in clashing}) > 1:
            for place in clashing:
                variants[place].settings[key.removesuffix("._target_")] = flat[place].get(key, "")


def _overrides(overrides: Sequence[str]) -> dict[str, str]:
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key.lstrip("+")] = value or ("dropped" if key.startswith("~") else "")
    return values


def _configured(config: Any, key: str) -> str:
    """Return what a configuration has where an override would have changed it; empty if there is nothing."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    if isinstance(config, Mapping) and isinstance(config.get("_target_"), str):
        return _part_name(config["_target_"])
    return _text(config)


def _text(value: Any, key: str = "") -> str:
    """Return a value as one would type it: a part by its name, a list without blanks."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _part_name(value) if key.endswith("_target_") else value
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict | bool) else str(value)


def _part_name(target: str) -> str:
    """Return what a configuration most likely calls a class: its module's name, or its own."""
    module, name = target.split(".")[-2:] if "." in target else ("", target)
    short = module.replace("_", "")
    initials = "".join(letter for letter in name if letter.isupper())
    if short and (name.lower().startswith(short) or initials.lower() == short):
        return module
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
