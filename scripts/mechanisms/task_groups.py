"""Four tasks in two groups with opposed tastes, for backbones that let some tasks share and keep others apart.

Two fields of 30 values with latent vectors of 4 numbers. In the first group the logit is the product of the vectors'
first halves, in the second that of their second halves, less the first group's; each task adds a fifth of noise of its
own kind, a product of other vectors. Networks are narrow, so that what one group learns takes room from the other.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from mechanisms.study import SMALL_NETWORK, Study

ROWS, VALUES, RANK = 12_000, 30, 4
TASKS = ("a1", "a2", "b1", "b2")


def make(seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, VALUES, (ROWS, 2))
    columns: dict[str, np.ndarray] = {f"f{field}": ids[:, field] for field in range(2)}

    def taste() -> np.ndarray:
        left, right = draw.normal(size=(2, VALUES, RANK))
        products = ((left - left.mean(0))[ids[:, 0]] * (right - right.mean(0))[ids[:, 1]]).sum(axis=1)
        return products / products.std()

    first, second = taste(), taste()
    for task in TASKS:
        logit = first if task.startswith("a") else (second - first) / 2**0.5
        logit = 2 * (0.9 * logit + 0.2 * taste())
        columns[task] = (draw.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pl.DataFrame(columns)


EXPERTS = ["model.backbone.expert_units=[8]", "model.backbone.dropout=0"]
STUDY = Study(
    name="groups of tasks",
    make=make,
    baseline="shared_bottom",
    variants={
        "shared_bottom": ("shared_bottom", ["model.backbone.units=[8]", "model.backbone.dropout=0"]),
        "mmoe": ("mmoe", [*EXPERTS, "model.backbone.num_experts=8"]),
        "snr_trans": ("snr_trans", ["model.backbone.units=[8]", "model.backbone.dropout=0"]),
        "adatt": ("adatt", [*EXPERTS, "model.backbone.num_levels=1"]),
        "home, all tasks one group": ("home", EXPERTS),
        "home, the true groups": ("home", [*EXPERTS, "+model.groups={a: [a1, a2], b: [b1, b2]}"]),
    },
    settings=[
        *(f"+dataset.features.f{field}.kind=categorical" for field in range(2)),
        *(f"+dataset.tasks.{task}.label={task}" for task in TASKS),
        *SMALL_NETWORK,
    ],
)
