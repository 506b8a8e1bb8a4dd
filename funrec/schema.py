"""Feature, Task and InputLayout: the words every room shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from funrec.utils.errors import InputError, did_you_mean

FEATURE_KINDS = ("categorical", "numeric", "sequence")
TASK_KINDS = ("binary", "regression")
POOLINGS = ("mean", "sum", "max")


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model.

    Attributes:
        name: The feature's name, unique in a dataset.
        kind: `categorical` (an id per row), `numeric` (a number per row) or `sequence` (ids per row).
        column: The raw column it is read from; the feature's own name where not given.
        embedding_dim: Width of its embedding. Has no meaning for an unbucketed numeric feature.
        min_count: Values seen fewer times in the training split share the out-of-vocabulary row.
        max_vocabulary: Keep the most frequent values only; none keeps all.
        hash_buckets: Hash values into this many rows instead of learning a vocabulary.
        share_with: Another feature whose vocabulary and embedding rows this one uses.
        pooling: How a sequence's embeddings become one: `mean`, `sum` or `max`.
        separator: What separates the values of a sequence stored as text.
        max_length: A sequence keeps its first `max_length` values.
        boundaries: Cut points that turn a number into a categorical bucket.
        quantiles: Number of equally filled buckets, cut at the training split's quantiles.
        fill: Stands in for a null or NaN of a numeric column; without it such a value is an error.
    """

    name: str
    kind: str = "categorical"
    column: str = ""
    embedding_dim: int = 8
    min_count: int = 1
    max_vocabulary: int | None = None
    hash_buckets: int | None = None
    share_with: str | None = None
    pooling: str = "mean"
    separator: str = ","
    max_length: int = 20
    boundaries: tuple[float, ...] | None = None
    quantiles: int | None = None
    fill: float | None = None

    @property
    def is_bucketed(self) -> bool:
        return self.kind == "numeric" and (self.boundaries is not None or self.quantiles is not None)

    @property
    def has_embedding(self) -> bool:
        """Whether the model reads it as embedding rows rather than as a number."""
        return self.kind != "numeric" or self.is_bucketed


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to predict.

    Attributes:
        name: The task's name, unique in a dataset.
        label: A raw column, or an SQL expression over the raw row (`"is_click = 1 AND is_like = 1"`).
        where: The task's sample space, likewise; rows outside it are masked in loss and metrics.
        weight: The task's weight in the loss, read by the `fixed` weighting.
        kind: `binary` or `regression`.
        after: The parent task in a funnel; none for a root.
        loss: The name of its loss in `conf/loss`, or a mapping of `name` and options; that of its kind if None.
    """

    name: str
    label: str = ""
    where: str | None = None
    weight: float = 1.0
    kind: str = "binary"
    after: str | None = None
    loss: str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class InputLayout:
    """What a batch carries: which column of which array is which feature.

    Attributes:
        features: All features of the dataset.
        id_features: Names of the columns of `ids`, in order.
        numeric_features: Names of the columns of `numeric`, in order.
        cardinalities: Embedding rows of every feature that has its own, the out-of-vocabulary row included.
    """

    features: tuple[Feature, ...]
    id_features: tuple[str, ...]
    numeric_features: tuple[str, ...]
    cardinalities: Mapping[str, int]

    @property
    def embedded_features(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.has_embedding)

    @property
    def sequence_features(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.kind == "sequence")

    def empty_batch(self, rows: int) -> dict[str, Any]:
        """Return a batch of `rows` unknown ids, zeros and empty sequences."""
        batch: dict[str, Any] = {"ids": np.zeros((rows, len(self.id_features)), np.int32)}
        if self.numeric_features:
            batch["numeric"] = np.zeros((rows, len(self.numeric_features)), np.float32)
        batch["sequences"] = {f.name: np.full((rows, f.max_length), -1, np.int32) for f in self.sequence_features}
        return batch


def build_features(config: Mapping[str, Mapping[str, Any] | None]) -> tuple[Feature, ...]:
    """Turn `dataset.features`, a mapping by name, into checked features.

    Raises:
        InputError: If a key is unknown or a value is not what it should be.
    """
    features = []
    for name, values in config.items():
        values = _without_nulls(f"dataset.features.{name}", values, Feature)
        values.setdefault("column", name)
        if values.get("boundaries") is not None:
            values["boundaries"] = tuple(
                _number(f"dataset.features.{name}.boundaries", v) for v in values["boundaries"]
            )
        feature = Feature(name=name, **values)
        _check_feature(feature)
        features.append(feature)
    by_name = {feature.name: feature for feature in features}
    for feature in features:
        _check_shared(feature, by_name)
    return tuple(features)


def build_tasks(config: Mapping[str, Mapping[str, Any] | None]) -> tuple[Task, ...]:
    """Turn `dataset.tasks`, a mapping by name, into checked tasks.

    Raises:
        InputError: If there is no task, a key is unknown, or a value is not what it should be.
    """
    if not config:
        raise InputError("dataset.tasks should name at least one task. Received: none.")
    tasks = []
    for name, values in config.items():
        values = _without_nulls(f"dataset.tasks.{name}", values, Task)
        values["label"] = str(values.get("label", name))
        values["weight"] = _number(f"dataset.tasks.{name}.weight", values.get("weight", 1.0))
        task = Task(name=name, **values)
        if task.kind not in TASK_KINDS:
            raise InputError(
                f"dataset.tasks.{name}.kind should be one of {', '.join(TASK_KINDS)}. Received: {task.kind}."
                + did_you_mean(task.kind, TASK_KINDS)
            )
        if task.weight < 0:
            raise InputError(f"dataset.tasks.{name}.weight should not be negative. Received: {task.weight}.")
        tasks.append(task)
    check_chain(tasks)
    return tuple(tasks)


def check_chain(tasks: Sequence[Task]) -> None:
    """Check that every `after` names another task and that none leads back to itself.

    Raises:
        InputError: If a parent is missing or the chain has a cycle.
    """
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


def _without_nulls(where: str, values: Mapping[str, Any] | None, kind: type) -> dict[str, Any]:
    values = dict(values or {})
    known = [field.name for field in fields(kind) if field.name != "name"]
    for key in values:
        if key not in known:
            raise InputError(f"{where}.{key}: no such key.{did_you_mean(key, known)}")
    return {key: value for key, value in values.items() if value is not None}


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where} should be a finite number. Received: {value!r}.")
    return float(value)


def _check_feature(feature: Feature) -> None:
    where = f"dataset.features.{feature.name}"
    for key, allowed in (("kind", FEATURE_KINDS), ("pooling", POOLINGS)):
        value = getattr(feature, key)
        if value not in allowed:
            raise InputError(
                f"{where}.{key} should be one of {', '.join(allowed)}. Received: {value}.{did_you_mean(value, allowed)}"
            )
    for key in ("embedding_dim", "min_count", "max_length", "max_vocabulary", "hash_buckets"):
        value = getattr(feature, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{where}.{key} should be a positive whole number. Received: {value}.")
    if feature.quantiles is not None and (not isinstance(feature.quantiles, int) or feature.quantiles < 2):
        raise InputError(f"{where}.quantiles should be a whole number of at least 2. Received: {feature.quantiles}.")
    if feature.boundaries is not None and list(feature.boundaries) != sorted(set(feature.boundaries)):
        raise InputError(f"{where}.boundaries should rise strictly. Received: {list(feature.boundaries)}.")
    if feature.boundaries is not None and feature.quantiles is not None:
        raise InputError(f"{where} should have boundaries or quantiles, not both. Drop one of them.")
    if feature.kind != "numeric":
        for key in ("boundaries", "quantiles", "fill"):
            if getattr(feature, key) is not None:
                raise InputError(f"{where}.{key} is for numeric features. Received: a {feature.kind} one.")
    if not feature.separator:
        raise InputError(f"{where}.separator should not be empty.")


def _check_shared(feature: Feature, by_name: Mapping[str, Feature]) -> None:
    if feature.share_with is None:
        return
    where = f"dataset.features.{feature.name}"
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
