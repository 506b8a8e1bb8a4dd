"""Six tasks, each the sum of two of four tastes, for gates that should take two experts each.

Four pairs of fields of 15 values; each pair has a taste, the product of two latent vectors of 3 numbers. Every task's
logit is the sum of a pair of tastes, all six pairs in turn, so that four experts of one taste each, two per task, are
all there is to know.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl

from mechanisms.study import SMALL_NETWORK, Study

ROWS, VALUES, RANK, TASTES = 12_000, 15, 3, 4
TASKS = {f"y{first}{second}": (first, second) for first, second in combinations(range(TASTES), 2)}


def make(seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, VALUES, (ROWS, 2 * TASTES))
    columns: dict[str, np.ndarray] = {f"f{field}": ids[:, field] for field in range(2 * TASTES)}
    tastes = []
    for taste in range(TASTES):
        left, right = draw.normal(size=(2, VALUES, RANK))
        products = (left - left.mean(0))[ids[:, 2 * taste]] * (right - right.mean(0))[ids[:, 2 * taste + 1]]
        tastes.append(products.sum(axis=1) / products.sum(axis=1).std())
    for task, (first, second) in TASKS.items():
        logit = 1.5 * (tastes[first] + tastes[second])
        columns[task] = (draw.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pl.DataFrame(columns)


EXPERTS = ["model.backbone.num_experts=4", "model.backbone.expert_units=[16]", "model.backbone.dropout=0"]
STUDY = Study(
    name="sparse experts",
    make=make,
    baseline="mmoe",
    variants={
        "mmoe": ("mmoe", EXPERTS),
        "dselect_k, by row": ("dselect_k", EXPERTS),
        "dselect_k, static": ("dselect_k", [*EXPERTS, "model.backbone.per_row=false"]),
    },
    settings=[
        *(f"+dataset.features.f{field}.kind=categorical" for field in range(2 * TASTES)),
        *(f"+dataset.tasks.{task}.label={task}" for task in TASKS),
        *SMALL_NETWORK,
    ],
)
