"""A small log with every kind of feature, and a finished run on it, for the tests of what is exported and served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import funrec
from funrec.experiment.run import Run
from funrec.fusion.fuse import fuse

FEATURES = (
    "{user: {}, item: {min_count: 2}, x: {kind: numeric}, y: {kind: numeric, fill: 0, quantiles: 8}, "
    "tags: {kind: sequence, max_length: 3, pooling: max}, "
    "read: {kind: sequence, max_length: 4, share_with: item, pooling: attention}, "
    "found: {kind: sequence, column: read, max_length: 4, share_with: item, pooling: transformer, search: item, "
    "search_length: 2}, bucket: {column: item, hash_buckets: 50}, seen: {}}"
)
OVERRIDES = (
    *("trainer=smoke", "model/funnel=esmm", "dataset.group=user", f"dataset.features={FEATURES}"),
    "dataset.tasks={click: {label: click}, buy: {label: buy, after: click}}",
    "dataset.split={by: random, valid: 0.3, calibrate: 0.2}",
    *("calibration=isotonic", "calibration.by=seen", "calibration.least_rows=10", "calibration.least_labels=2"),
)
FORMULA = "p_click^0.4 * p_buy - 0.1 * logit_click"


def log(rows: int = 3000) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    user = draw.integers(0, 60, rows)
    click = draw.random(rows) < 0.3 + 0.01 * user / 2
    return pl.DataFrame(
        {
            "user": user,
            "item": [f"ü{item}" for item in draw.integers(0, 90, rows)],
            "x": draw.normal(size=rows),
            "y": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(size=rows)),
            "tags": [",".join(map(str, draw.integers(0, 9, draw.integers(0, 5)))) for _ in range(rows)],
            "read": [",".join(f"ü{i}" for i in draw.integers(0, 90, draw.integers(0, 5))) for _ in range(rows)],
            "seen": [None if one % 7 == 0 else int(one) for one in draw.integers(0, 30, rows)],
            "click": click.astype(int),
            "buy": (click & (draw.random(rows) < 0.5)).astype(int),
        }
    )


def as_json(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return raw rows as a client would send them: lists as lists, NaN as null."""
    lists = pl.col("tags", "read").str.split(",").list.eval(pl.element().filter(pl.element() != ""))
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None), pl.col(pl.Date).cast(pl.String), lists).to_dicts()


def finish(place: Path) -> Run:
    """Return a run on the log, calibrated by the values of one feature, its heads fused."""
    log().write_parquet(place / "log.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = funrec.run_experiment("mmoe", "dataset=tabular", f"dataset.path={place}/log.parquet", *OVERRIDES)
    fuse(place / done.path, "auc_click", formula=FORMULA)
    return Run(place / done.path, done.record)
