"""Every key that a configuration may have, with the default that its class's signature gives it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from funrec.config.build import resolve
from funrec.config.inputs import feature_defaults
from funrec.schema import CategoricalFeature, SplitRule, Task
from funrec.utils.errors import InputError
from funrec.utils.logging import load_tensorflow
from funrec.utils.specs import spec_of

#: What the program passes to a model and its parts, so that no configuration does.
PROGRAM = frozenset(("backbone", "funnel", "interaction", "wide", "losses", "layout", "tasks", "precision", "dtype"))
SECTIONS = ("dataset", "model", "weighting", "optimizer", "trainer", "metrics", "calibration")


def expand(config: Mapping[str, Any], sections: Collection[str] = SECTIONS, every_kind: bool = False) -> dict[str, Any]:
    """Return a run's configuration with every default spelt out.

    What cannot be resolved stays as it is: building it says what is wrong.

    Args:
        config: Plain values.
        sections: The sections to expand, each of which may have to import what it names.
        every_kind: Whether features get the keys of all kinds of features, rather than those of their own.
    """
    expanded = dict(config)
    if not {"model", "weighting", "optimizer", "trainer"}.isdisjoint(sections):
        load_tensorflow(look_for_devices=False)  # without the notes that importing it alone would write
    for section in sections:
        if isinstance(config.get(section), Mapping):
            expanded[section] = _expand_node(config[section], PROGRAM if section == "model" else frozenset())
    if "dataset" in sections and isinstance(config.get("dataset"), Mapping):
        dataset = expanded["dataset"]
        if isinstance(dataset.get("features"), Mapping):
            dataset["features"] = {
                name: _expand_feature(values, every_kind) for name, values in dataset["features"].items()
            }
        task, split = spec_of(Task, {"name"}).defaults(), spec_of(SplitRule).defaults()
        if isinstance(dataset.get("tasks"), Mapping):
            dataset["tasks"] = {name: _merge(task, values) for name, values in dataset["tasks"].items()}
        dataset["split"] = _merge(split, dataset.get("split"))
        dataset["downsample"] = _merge({"task": None, "rate": None}, dataset.get("downsample"))
    return expanded


def _expand_node(node: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    defaults = {}
    if isinstance(target := node.get("_target_"), str):
        try:
            defaults = spec_of(resolve(target, object, "_target_"), given).defaults()
        except (InputError, ImportError):
            defaults = {}
        if target.startswith("keras."):  # Keras has options of its own, and not all of them go together
            defaults = {}
    inner = {key: _expand_node(value, given) if isinstance(value, Mapping) else value for key, value in node.items()}
    return _merge(defaults, inner)


def _expand_feature(values: Any, every_kind: bool) -> Any:
    kind = values.get("kind") if isinstance(values, Mapping) else None
    return _merge(feature_defaults(None if every_kind else kind or CategoricalFeature.kind), values)


def _merge(defaults: Mapping[str, Any], values: Any) -> Any:
    """Return `values` with the defaults that they leave out; the keys that were given come first."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        return values
    return {**values, **{key: default for key, default in defaults.items() if key not in values}}
