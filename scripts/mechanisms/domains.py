"""Three domains with tastes of their own, two of them opposed, for backbones that treat domains differently.

Two fields of 20 values with latent vectors of 4 numbers; the logit is the product of the vectors, with the other sign
in the second domain and with other vectors in the third. All models have the domain as a feature.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from mechanisms.study import SMALL_NETWORK, Study

ROWS, VALUES, RANK = 12_000, 20, 4


def make(seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, VALUES, (ROWS, 2))
    domain = draw.integers(0, 3, ROWS)

    def taste() -> np.ndarray:
        left, right = draw.normal(size=(2, VALUES, RANK))
        products = ((left - left.mean(0))[ids[:, 0]] * (right - right.mean(0))[ids[:, 1]]).sum(axis=1)
        return 2 * products / products.std()

    first, third = taste(), taste()
    logit = np.choose(domain, [first, -first, third])
    label = (draw.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pl.DataFrame({"f0": ids[:, 0], "f1": ids[:, 1], "domain": domain, "y": label})


UNITS = ["model.backbone.units=[32]", "model.backbone.dropout=0"]
STUDY = Study(
    name="domains with opposed tastes",
    make=make,
    baseline="shared_bottom",
    variants={
        "shared_bottom": ("shared_bottom", UNITS),
        "mmoe": ("mmoe", ["model.backbone.expert_units=[8]", "model.backbone.dropout=0"]),
        "star": ("star", UNITS),
        "pepnet": ("pepnet", UNITS),
    },
    settings=[
        *(f"+dataset.features.f{field}.kind=categorical" for field in range(2)),
        "dataset.domain=domain",
        "+dataset.tasks.y.label=y",
        *SMALL_NETWORK,
        "model.tower_units=[16]",
    ],
)
