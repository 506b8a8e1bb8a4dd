"""Labels of kind duration: what they may be, and how long against their length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tables import log_table, prepare_table

from funrec.config.inputs import build_tasks
from funrec.data.arrays import PreparedData
from funrec.utils.errors import InputError


def prepare_watch(folder: Path, watched: pl.Expr, **task: Any) -> PreparedData:
    table = log_table().with_columns(watched.alias("watched"), length=pl.lit(10.0))
    task = {"label": "watched", "kind": "duration", **task}
    return prepare_table(folder, table, group="user", tasks={"watch": task})


def test_durations_within_their_lengths_are_kept_as_they_are(tmp_path: Path) -> None:
    data = prepare_watch(tmp_path, pl.int_range(pl.len()) % 21, length="length", most_lengths=2.0)
    assert data.splits["train"].labels.max() == 20.0


@pytest.mark.parametrize(
    ("watched", "task", "message"),
    [
        (pl.lit(-1.0), {}, r"watch\.label should be a finite number of at least 0 .* Received: -1, in row 0"),
        (
            pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise(1.0),
            {},
            r"watch\.label should be a finite number of at least 0 .* Received: a null, in row 2",
        ),
        (
            pl.when(pl.int_range(pl.len()) == 3).then(31.0).otherwise(30.0),
            {"length": "length", "most_lengths": 3},
            r"watch\.label should be at most 3 times its length .* Received: 31 for a length of 10, in row 3",
        ),
        (
            pl.lit(1.0),
            {"length": "lenght", "most_lengths": 3},
            r"watch\.length: no such column .*Did you mean length\?",
        ),
    ],
)
def test_a_duration_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, watched: pl.Expr, task: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        prepare_watch(tmp_path, watched, **task)
    assert "\n" not in str(refused.value)


def test_an_unknown_length_bounds_nothing(tmp_path: Path) -> None:
    length = "CASE WHEN watched > 5 THEN 0 ELSE length END"
    data = prepare_watch(tmp_path, pl.int_range(pl.len()) % 90, length=length, most_lengths=1.0)
    assert data.splits["train"].labels.max() == 89.0


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "binary", "length": "length"}, r"watch\.length is for tasks of kind duration"),
        ({"kind": "duration", "most_lengths": 2}, r"watch\.length should name a column where most_lengths is given"),
        (
            {"kind": "duration", "length": "length", "most_lengths": 0},
            r"watch\.most_lengths should be a positive number",
        ),
    ],
)
def test_a_length_without_use_is_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_tasks({"watch": task})
