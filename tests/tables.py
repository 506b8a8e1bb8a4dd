"""Small tables and KuaiRand archives to prepare, written to a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from funrec.config.build import build
from funrec.data.arrays import PreparedData
from funrec.data.datasets.kuairand import KuaiRand
from funrec.data.datasets.tabular import Tabular
from funrec.data.preparation.prepare import prepare


def log_table(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """A log of 20 users and 15 items over 10 days, with clicks, buys inside clicks, and a few awkward columns."""
    random = np.random.default_rng(seed)
    click = random.integers(0, 2, rows)
    return pl.DataFrame(
        {
            "user": random.integers(0, 20, rows),
            "item": [f"i{value}" for value in random.integers(0, 15, rows)],
            "day": np.sort(random.integers(1, 11, rows)) + 20220500,
            "price": random.normal(10, 3, rows),
            "tags": [",".join(map(str, random.integers(0, 6, size))) for size in random.integers(0, 4, rows)],
            "hours-per-week": random.integers(1, 60, rows),
            "click": click,
            "buy": click * random.integers(0, 2, rows),
            "rating": random.normal(3, 1, rows),
        }
    )


def tabular(folder: Path, table: pl.DataFrame | None = None, **changes: Any) -> Tabular:
    """Write a table to `folder/log.csv` and return it as a dataset, with `changes` to its arguments."""
    if table is not None:
        table.write_csv(folder / "log.csv")
    arguments: dict[str, Any] = {
        "path": str(folder / "log.csv"),
        "features": {"user": {}, "item": {}},
        "tasks": {"click": {}},
        "split": {"by": "time", "column": "day", "valid_from": 20220508},
    }
    return build({"_target_": "funrec.data.datasets.tabular.Tabular", **arguments, **changes}, Tabular, "dataset")


def prepare_table(folder: Path, table: pl.DataFrame | None = None, **changes: Any) -> PreparedData:
    """Prepare what `tabular` returns, in the cache `folder/cache`."""
    return prepare(tabular(folder, log_table() if table is None else table, **changes), folder / "cache")


USERS, VIDEOS = 12, 9


def write_kuairand(root: Path, variant: str = "pure", parts: bool = False, statistics: bool = True) -> Path:
    """Write a made-up archive in KuaiRand's published layout: all logs, users, videos and statistics."""
    folder = root / "data"
    folder.mkdir(parents=True)
    for seed, (name, first, days) in enumerate(
        (
            ("standard_4_08_to_4_21", 20220408, 5),
            ("standard_4_22_to_5_08", 20220501, 8),
            ("random_4_22_to_5_08", 20220501, 8),
        )
    ):
        _write(_kuairand_log(seed, first, days), folder / f"log_{name}_{variant}", parts and "random" not in name)
    random = np.random.default_rng(9)
    users = {
        "user_id": np.arange(USERS),
        "user_active_degree": [("full_active", "high_active", "UNKNOWN")[user % 3] for user in range(USERS)],
        "follow_user_num": random.integers(0, 600, USERS),
        "onehot_feat0": random.integers(0, 2, USERS),
    }
    pl.DataFrame(users).write_csv(folder / f"user_features_{variant}.csv")
    videos = {
        "video_id": np.arange(VIDEOS),
        "author_id": np.arange(VIDEOS) % 4,
        "video_type": ["NORMAL", "AD", "NORMAL"] * 3,
        "upload_dt": ["2022-04-10"] * VIDEOS,
        "music_id": [None, *range(1, VIDEOS)],
        "tag": [None, "12,65", "7", "7,12", "65", "3,7,12", "12", "3", "65,3"],
    }
    pl.DataFrame(videos).write_csv(folder / f"video_features_basic_{variant}.csv")
    if statistics:
        counts = {"video_id": np.arange(VIDEOS), "play_cnt": random.random(VIDEOS), "follow_user_num": np.ones(VIDEOS)}
        _write(pl.DataFrame(counts), folder / f"video_features_statistic_{variant}", parts)
    return root


def _kuairand_log(seed: int, first_day: int, days: int, rows: int = 240) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    label = {name: random.integers(0, 2, rows) for name in ("is_click", "is_like", "is_follow", "is_hate", "long_view")}
    return pl.DataFrame(
        {
            "user_id": random.integers(0, USERS, rows),
            "video_id": random.integers(0, VIDEOS, rows),
            "date": np.sort(random.integers(0, days, rows)) + first_day,
            "hourmin": random.integers(0, 2359, rows),
            "time_ms": random.integers(1_650_000_000_000, 1_652_000_000_000, rows),
            **label,
            "play_time_ms": random.integers(0, 10**5, rows),
            "is_rand": np.zeros(rows, dtype=int),
            "tab": random.integers(0, 4, rows),
            "duration_ms": random.integers(0, 10**5, rows),
        }
    )


def _write(table: pl.DataFrame, stem: Path, parts: bool) -> None:
    if not parts:
        table.write_csv(f"{stem}.csv")
        return
    half = table.height // 2
    table.head(half).write_csv(f"{stem}_part1.csv")
    table.tail(table.height - half).write_csv(f"{stem}_part2.csv")


def kuairand(root: Path, **changes: Any) -> KuaiRand:
    """Return an archive that `write_kuairand` wrote as a dataset."""
    split: Mapping[str, Any] = {"by": "time", "column": "date", "valid_from": 20220506}
    arguments: dict[str, Any] = {
        "root": str(root),
        "variant": "pure",
        "features": {"user_id": {}, "video_id": {}, "user_active_degree": {}, "video_type": {}, "tag": {}},
        "tasks": {"is_click": {}, "long_view": {}, "is_like": {}},
        "split": split,
    }
    return build({"_target_": "funrec.data.datasets.kuairand.KuaiRand", **arguments, **changes}, KuaiRand, "dataset")
