"""Small layouts, rows and models, made by hand: what the tests of layers, models and training share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from funrec.data.arrays import SequenceArrays
from funrec.models.backbones.base import Backbone
from funrec.models.backbones.mmoe import MMoE
from funrec.models.funnels.independent import Independent
from funrec.models.model import MultiTaskModel
from funrec.models.structure import Structure
from funrec.schema import CategoricalFeature, InputLayout, NumericFeature, SequenceFeature, Task
from funrec.training.checkpoints import write_weights
from funrec.training.optimizers import LazyAdam
from funrec.training.state import copy_to_host
from funrec.weighting.fixed import Fixed

TASKS = (Task("click", "click"), Task("like", "like"))


@dataclass
class Rows:
    """Rows of one split, as `funrec.data.arrays.SplitArrays` has them."""

    ids: NDArray[np.int32]
    numeric: NDArray[np.float32]
    labels: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None
    weights: NDArray[np.float32] | None = None
    observed: NDArray[np.float32] | None = None
    groups: NDArray[np.int32] | None = None
    sequences: Mapping[str, SequenceArrays] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def layout(
    cardinalities: Mapping[str, int], numeric: Sequence[str] = (), dim: int = 4, domain: str | None = None
) -> InputLayout:
    """Return the layout of categorical features with so many embedding rows each, and numbers."""
    features = [CategoricalFeature(name, column=name, embedding_dim=dim) for name in cardinalities]
    features += [NumericFeature(name, column=name) for name in numeric]
    return InputLayout(tuple(features), tuple(cardinalities), tuple(numeric), dict(cardinalities), domain)


def rich_layout() -> InputLayout:
    """Return a layout with two embedding widths, a shared table, every pooling, and numbers."""
    features = (
        CategoricalFeature("user", embedding_dim=4),
        NumericFeature("age"),
        SequenceFeature("seen", embedding_dim=4, share_with="item", max_length=3, pooling="mean"),
        CategoricalFeature("item", embedding_dim=4),
        SequenceFeature("tags", embedding_dim=2, max_length=4, pooling="sum"),
        CategoricalFeature("tab", embedding_dim=2),
        SequenceFeature("topics", share_with="tags", embedding_dim=2, max_length=2, pooling="max"),
        NumericFeature("price"),
    )
    cardinalities = {"user": 7, "item": 11, "tags": 5, "tab": 3}
    return InputLayout(features, ("user", "item", "tab"), ("age", "price"), cardinalities)


def rich_batch(rows: int = 6, seed: int = 0) -> dict[str, Any]:
    """Return a batch for `rich_layout`, with sequences of all lengths down to none."""
    draw = np.random.default_rng(seed)

    def sequence(cardinality: int, length: int) -> NDArray[np.int32]:
        values = draw.integers(0, cardinality, (rows, length))
        lengths = np.arange(rows) % (length + 1)
        return np.where(np.arange(length) < lengths[:, None], values, -1).astype(np.int32)

    return {
        "ids": np.stack([draw.integers(0, c, rows) for c in (7, 11, 3)], axis=1).astype(np.int32),
        "numeric": draw.normal(size=(rows, 2)).astype(np.float32),
        "sequences": {"seen": sequence(11, 3), "tags": sequence(5, 4), "topics": sequence(5, 2)},
    }


def model(
    backbone: Backbone | None = None,
    inputs: InputLayout | None = None,
    tasks: Sequence[Task] = TASKS,
    seed: int = 0,
    rates: Mapping[str, float] | None = None,
    **options: Any,
) -> MultiTaskModel:
    """Return an initialised model."""
    backbone = backbone or MMoE(num_experts=2, expert_units=(8,), dropout=0.0)
    options = {"tower_units": (6,), "tower_dropout": 0.0, "embedding_l2": 0.0, **options}
    built = MultiTaskModel(backbone, Independent(), inputs or layout({"user": 20, "item": 30}), tasks, **options)
    built.initialise(seed, rates)
    return built


def structure(towers: int, parents: Sequence[int | None] | None = None, **options: Any) -> Structure:
    """Return the shape of a model with so many towers."""
    names = tuple(f"tower_{place + 1}" for place in range(towers))
    return Structure((), towers=names, parents=tuple(parents or (None,) * towers), **options)


def randomise(built: MultiTaskModel, scale: float = 0.5, seed: int = 1) -> None:
    """Give every trainable weight a value of its own, those that start at zero or one included."""
    draw = np.random.default_rng(seed)
    for variable in built.trainable_variables:
        variable.assign(draw.normal(scale=scale, size=variable.shape))


def save_weights(built: MultiTaskModel, folder: Path) -> None:
    write_weights(copy_to_host(built.weights), folder)


def weighting(tasks: Sequence[Task] = TASKS) -> Fixed:
    fixed = Fixed()
    fixed.configure(tasks)
    return fixed


def optimizer(learning_rate: float = 0.01) -> keras.optimizers.Optimizer:
    return LazyAdam(learning_rate=learning_rate)


def planted_rows(
    probability: Callable[[NDArray[np.int32]], Sequence[NDArray[np.float64]]],
    rows: int = 2000,
    users: int = 20,
    items: int = 30,
    seed: int = 0,
) -> Rows:
    """Return rows of users and items whose labels are drawn from the probabilities that are a function of the ids.

    Args:
        probability: From ids `(rows, 2)` to a probability `(rows,)` per task.
        rows: Number of rows.
        users: Embedding rows of the user.
        items: Embedding rows of the item.
        seed: Of the draw.
    """
    draw = np.random.default_rng(seed)
    ids = np.stack([draw.integers(1, users, rows), draw.integers(1, items, rows)], axis=1).astype(np.int32)
    labels = [draw.random(rows) < p for p in probability(ids)]
    return Rows(ids, np.zeros((rows, 0), np.float32), np.stack(labels, axis=1).astype(np.float32))
