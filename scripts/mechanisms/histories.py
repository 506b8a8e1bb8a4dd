"""A click depends on whether the item's category occurs in a long history, for poolings of sequences.

20 categories of 5 items; a user's history has 10 to 90 events of 8 categories that she likes. Half of the items that
are shown are of a category that occurs in her history, and those are clicked at .8, the others at .2. No category is
liked more than another, so that item and history each say nothing by themselves.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from mechanisms.study import SMALL_NETWORK, Study

ROWS, CATEGORIES, PER_CATEGORY, LONGEST, LIKED = 30_000, 20, 5, 90, 8


def make(seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    histories, categories, clicks = [], [], []
    for _ in range(ROWS):
        liked = draw.permutation(CATEGORIES)[:LIKED]
        items = draw.choice(liked, draw.integers(10, LONGEST + 1)) * PER_CATEGORY
        histories.append(items + draw.integers(0, PER_CATEGORY, len(items)))
        seen = np.unique(items // PER_CATEGORY)
        is_seen = draw.random() < 0.5
        categories.append(draw.choice(seen if is_seen else np.setdiff1d(np.arange(CATEGORIES), seen)))
        clicks.append(draw.random() < (0.8 if is_seen else 0.2))
    shown = np.array(categories)
    frame = pl.DataFrame({"category": shown, "click": np.array(clicks, np.int8), "seen": histories})
    return frame.with_columns(
        item=pl.Series(shown * PER_CATEGORY + draw.integers(0, PER_CATEGORY, ROWS)),
        seen_categories=pl.col("seen").list.eval(pl.element() // PER_CATEGORY),
    )


def variant(*overrides: str) -> tuple[str, list[str]]:
    return "shared_bottom", ["model.backbone.units=[64]", "model.backbone.dropout=0", *overrides]


EVENTS = "dataset.features.seen"
STUDY = Study(
    name="histories",
    make=make,
    baseline="mean",
    variants={
        "mean": variant(),
        "attention": variant(f"{EVENTS}.pooling=attention"),
        "transformer": variant(f"{EVENTS}.pooling=transformer"),
        "search, mean": variant(f"+{EVENTS}.search=category"),
        "search, attention": variant(f"+{EVENTS}.search=category", f"{EVENTS}.pooling=attention"),
    },
    settings=[
        "+dataset.features.item.kind=categorical",
        "+dataset.features.category.kind=categorical",
        *(
            f"+dataset.features.{name}={{kind: sequence, events: seen, share_with: {owner}, max_length: {LONGEST}, "
            "pooling: mean}"
            for name, owner in (("seen", "item"), ("seen_categories", "category"))
        ),
        "+dataset.tasks.click.label=click",
        *SMALL_NETWORK,
        "model.tower_units=[32]",
    ],
    metric="auc_click",
)
