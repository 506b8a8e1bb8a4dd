"""Crossed fields that no sum can see, for interactions.

Four fields of 30 values. Every value has a latent vector of 8 numbers, and the logit of the first task is the product
of the vectors of fields 1 and 2, of the second task that of fields 3 and 4, scaled to a standard deviation of 2. For
every vector there is its opposite, so that no value by itself says anything: a logistic regression stays at .5.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from funrec.config.catalogue import describe
from mechanisms.study import SMALL_NETWORK, Study

ROWS, FIELDS, VALUES, RANK = 30_000, 4, 30, 8
PAIRS = {"y1": (0, 1), "y2": (2, 3)}


def make(seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, VALUES, (ROWS, FIELDS))
    columns: dict[str, np.ndarray] = {f"f{field}": ids[:, field] for field in range(FIELDS)}
    for task, (left, right) in PAIRS.items():
        half = draw.normal(size=(2, VALUES // 2, RANK))
        latent = np.concatenate([half, -half], axis=1)
        products = (latent[0, ids[:, left]] * latent[1, ids[:, right]]).sum(axis=1)
        columns[task] = (draw.random(ROWS) < 1 / (1 + np.exp(-2 * products / RANK**0.5))).astype(np.int8)
    return pl.DataFrame(columns)


PREFIX = "model/interaction="
NAMES = [name.removeprefix(PREFIX) for name, _ in describe("models") if name.startswith(PREFIX)]
NETWORK = ["model.backbone.units=[64]", "model.backbone.dropout=0"]
STUDY = Study(
    name="crossed fields",
    make=make,
    baseline="none",
    variants={
        "logistic": ("logistic", []),
        **{
            name: ("shared_bottom", [*NETWORK, PREFIX + name])
            for name in sorted(NAMES, key=lambda name: name != "none")
        },
    },
    settings=[
        *(f"+dataset.features.f{field}.kind=categorical" for field in range(FIELDS)),
        *(f"+dataset.tasks.{task}.label={task}" for task in PAIRS),
        *SMALL_NETWORK,
        "model.tower_units=[32]",
        "optimizer.learning_rate=0.003",
    ],
)
