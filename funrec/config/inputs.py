"""From `dataset.features` and `dataset.tasks` to checked features and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funrec.schema import (
    FEATURES,
    KINDS,
    CategoricalFeature,
    Feature,
    NumericFeature,
    SequenceFeature,
    Task,
    event_columns,
)
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import check, spec_of


def build_features(config: Mapping[str, Mapping[str, Any] | None]) -> tuple[Feature, ...]:
    """Turn `dataset.features`, a mapping by name, into checked features."""
    features = tuple(read_feature({**(values or {}), "name": name}) for name, values in config.items())
    by_name = {feature.name: feature for feature in features}
    for feature in features:
        _check_feature(feature, by_name)
    for columns in event_columns(features):
        _check_events(columns, by_name)
    return features


def read_feature(values: Mapping[str, Any]) -> Feature:
    """Return the feature that `values`, its name among them, describe.

    A key of another kind may stand at its default: configurations of version 0.1 spell every key.
    """
    values = dict(values)
    name, kind = values.pop("name"), values.pop("kind", None) or CategoricalFeature.kind
    where = f"dataset.features.{name}"
    if kind not in KINDS:
        raise InputError(
            f"{where}.kind should be one of {', '.join(KINDS)}. Received: {kind}.{did_you_mean(kind, KINDS)}"
        )
    known = spec_of(KINDS[kind], {"name"}).parameters
    for key in [key for key in values if key not in known]:
        others = [other for other in FEATURES if key in spec_of(other, {"name"}).parameters]
        if not others:
            raise InputError(f"{where}.{key}: no such key.{did_you_mean(key, ['kind', *known])}")
        if values[key] not in (None, spec_of(others[0]).defaults()[key]):
            kinds = " and ".join(other.kind for other in others)
            raise InputError(f"{where}.{key} is for {kinds} features. Received: a {kind} one.")
        del values[key]
    return KINDS[kind](name=name, **check(KINDS[kind], values, where, given={"name"}, ignore_nulls=True))


def feature_defaults(kind: str | None = None) -> dict[str, Any]:
    """Return every key of a kind of feature, or of all kinds, with its default."""
    defaults: dict[str, Any] = {"kind": kind or CategoricalFeature.kind}
    for feature in FEATURES:
        if kind in (None, feature.kind):
            defaults |= spec_of(feature, {"name"}).defaults()
    return defaults


def build_tasks(config: Mapping[str, Mapping[str, Any] | None]) -> tuple[Task, ...]:
    """Turn `dataset.tasks`, a mapping by name, into checked tasks."""
    if not config:
        raise InputError("dataset.tasks should name at least one task. Received: none.")
    tasks = []
    for name, values in config.items():
        checked = check(Task, values or {}, f"dataset.tasks.{name}", given={"name"}, ignore_nulls=True)
        tasks.append(Task(name=name, **{**checked, "label": checked.get("label") or name}))
        _check_keys(tasks[-1])
    check_chain(tasks)
    return tuple(tasks)


def _check_keys(task: Task) -> None:
    where = f"dataset.tasks.{task.name}"
    if task.length is not None and task.kind != "duration":
        raise InputError(f"{where}.length is for tasks of kind duration. Received: a {task.kind} one.")
    if task.observed_after is not None and not task.is_binary:
        raise InputError(f"{where}.observed_after is for binary tasks. Received: a {task.kind} one.")
    if task.most_lengths is not None and task.length is None:
        raise InputError(f"{where}.length should name a column where most_lengths is given. Received: null.")


def check_chain(tasks: Sequence[Task]) -> None:
    """Check that every `after` names another task and that none leads back to itself."""
    parents = {task.name: task.after for task in tasks}
    for task in tasks:
        if task.after is not None and task.after not in parents:
            raise InputError(
                f"dataset.tasks.{task.name}.after should name another task. Received: {task.after}."
                + did_you_mean(task.after, [name for name in parents if name != task.name])
            )
        path = [task.name]
        while (parent := parents[path[-1]]) is not None:
            if parent in path:
                raise InputError(
                    f"dataset.tasks.{task.name}.after should not lead back to itself. "
                    f"Received: {' -> '.join([*path, parent])}."
                )
            path.append(parent)


def _check_feature(feature: Feature, by_name: Mapping[str, Feature]) -> None:
    where = f"dataset.features.{feature.name}"
    if isinstance(feature, NumericFeature):
        if feature.boundaries is not None and list(feature.boundaries) != sorted(set(feature.boundaries)):
            raise InputError(f"{where}.boundaries should rise strictly. Received: {list(feature.boundaries)}.")
        if feature.boundaries is not None and feature.quantiles is not None:
            raise InputError(f"{where} should have boundaries or quantiles, not both. Drop one of them.")
    if feature.share_with is None:
        return
    owner = by_name.get(feature.share_with)
    if owner is None or owner is feature:
        others = [name for name in by_name if name != feature.name]
        raise InputError(
            f"{where}.share_with should name another feature. Received: {feature.share_with}."
            + did_you_mean(feature.share_with, others)
        )
    if owner.share_with is not None:
        raise InputError(f"{where}.share_with should name a feature with rows of its own. {owner.name} shares too.")
    if feature.kind == "numeric" or owner.kind == "numeric":
        raise InputError(f"{where}.share_with is for categorical and sequence features.")
    if feature.embedding_dim != owner.embedding_dim:
        raise InputError(
            f"{where}.embedding_dim should equal that of {owner.name}, whose rows it shares: {owner.embedding_dim}. "
            f"Received: {feature.embedding_dim}."
        )


def _check_events(columns: Sequence[SequenceFeature], by_name: Mapping[str, Feature]) -> None:
    first = columns[0]
    where = f"dataset.features.{first.name}"
    for column in columns:
        target = by_name.get(column.target or column.name)
        if column.target and (target is None or target.kind == "sequence" or not target.has_embedding):
            ids = [name for name, other in by_name.items() if other.has_embedding and other.kind != "sequence"]
            raise InputError(
                f"dataset.features.{column.name}.target should name a feature with one id a row. "
                f"Received: {column.target}.{did_you_mean(column.target, ids)}"
            )
        if target is not None and target.embedding_dim != column.embedding_dim:
            raise InputError(
                f"dataset.features.{column.name}.embedding_dim should equal that of its target {target.name}: "
                f"{target.embedding_dim}. Received: {column.embedding_dim}."
            )
        if column is not first and (column.pooling != "mean" or column.search):
            raise InputError(
                f"dataset.features.{column.name}: pooling and search should stand at {first.name}, the first sequence "
                f"of the events {first.events}. Move them there."
            )
        if column.max_length != first.max_length:
            raise InputError(
                f"dataset.features.{column.name}.max_length should equal that of {first.name}, whose events it has: "
                f"{first.max_length}. Received: {column.max_length}."
            )
    if first.search and first.search not in [column.share_with for column in columns]:
        raise InputError(
            f"{where}.search should name a feature that a column of its events shares rows with (share_with). "
            f"Received: {first.search}."
        )
    if first.search and by_name[first.search].kind == "sequence":
        raise InputError(f"{where}.search should name a feature with one id a row. Received: {first.search}.")
