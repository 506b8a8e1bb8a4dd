"""Slices of the evaluation rows: by what training knew, and by any column of the raw rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import kuairand, log_table, prepare_table, tabular, write_kuairand

from funrec.data.arrays import PreparedData
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.prepare import prepare
from funrec.data.slicing import MISSING, OTHER, cut, read_columns
from funrec.utils.errors import InputError

LATE = pl.col("day") >= 20220508


def sliced(data: PreparedData, columns: dict[str, pl.Series] | None = None) -> dict[tuple[str, str], np.ndarray]:
    return {(part.name, part.value): part.rows for part in cut(data, data.splits["valid"], columns or {})}


def columns_of(dataset: Dataset, data: PreparedData, *names: str, split: str = "valid") -> dict[str, pl.Series]:
    return {name: values[split] for name, values in read_columns(dataset, data, names).items()}


def test_users_and_items_are_cold_where_training_never_saw_them(tmp_path: Path) -> None:
    table = log_table().filter(LATE | ((pl.col("user") != 3) & (pl.col("item") != "i5")))
    data = prepare_table(tmp_path, table, group="user", item="item")
    valid = table.filter(LATE)
    parts = sliced(data)
    assert parts["user", "cold"].tolist() == (valid["user"] == 3).to_list()
    assert parts["user", "known"].tolist() == (valid["user"] != 3).to_list()
    assert parts["item", "cold"].tolist() == (valid["item"] == "i5").to_list()
    assert parts["user", "cold"].any() and parts["item", "cold"].any()


def test_head_items_are_the_fifth_with_the_most_training_rows(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, group="user", item="item")
    counts = table.filter(~LATE).group_by("item").len().sort("len", "item", descending=True)
    fewest_of_head = counts["len"][round(0.2 * counts.height) - 1]
    parts = sliced(data)
    in_head = set(table.filter(LATE)["item"].to_numpy()[parts["item", "head"]])
    rows = dict(counts.iter_rows())
    assert len(in_head) == round(0.2 * counts.height)
    assert all(rows[item] >= fewest_of_head for item in in_head)
    together = parts["item", "head"].astype(int) + parts["item", "tail"] + parts["item", "cold"]
    assert (together == 1).all()


def test_data_without_users_and_items_has_no_such_slices(tmp_path: Path) -> None:
    assert not sliced(prepare_table(tmp_path))


@pytest.mark.parametrize("changes", [{}, {"where": "price > 9"}, {"max_rows": 380}])
def test_a_raw_column_is_read_for_the_rows_that_are_scored(tmp_path: Path, changes: dict[str, Any]) -> None:
    table = log_table()
    dataset = tabular(tmp_path, table, **changes)
    data = prepare(dataset, tmp_path / "cache")
    kept = (
        table.filter(pl.col("price") > 9) if "where" in changes else table.head(changes.get("max_rows", table.height))
    )
    hours = kept.filter(LATE)["hours-per-week"]
    (found,) = columns_of(dataset, data, "hours-per-week").values()
    assert found.to_list() == hours.to_list()
    parts = sliced(data, {"hours-per-week": found})
    most = str(hours.value_counts(sort=True)["hours-per-week"][0])
    assert parts["hours-per-week", most].tolist() == (hours.cast(pl.String) == most).to_list()


def test_a_feature_stands_for_its_column(tmp_path: Path) -> None:
    table = log_table()
    dataset = tabular(tmp_path, table, features={"who": {"column": "user"}})
    (found,) = columns_of(dataset, prepare(dataset, tmp_path / "cache"), "who").values()
    assert found.to_list() == table.filter(LATE)["user"].to_list()


def test_rare_values_share_a_slice_and_a_missing_value_has_one(tmp_path: Path) -> None:
    data = prepare_table(tmp_path)
    rows = len(data.splits["valid"])
    values = pl.Series([None, *[f"v{place % 40}" for place in range(rows - 1)]])
    parts = {value: rows for (_, value), rows in sliced(data, {"column": values}).items()}
    assert len(parts) == 21
    assert parts[OTHER].sum() == rows - sum(part.sum() for value, part in parts.items() if value != OTHER)
    few = pl.Series([None, *["a"] * (rows - 1)])
    assert {value for _, value in sliced(data, {"column": few})} == {MISSING, "a"}


def test_joined_columns_and_other_evaluation_splits_have_slices(tmp_path: Path) -> None:
    dataset = kuairand(write_kuairand(tmp_path / "archive"), random_exposure=True)
    data = prepare(dataset, tmp_path / "cache")
    found = read_columns(dataset, data, ["tab", "user_active_degree"])
    for name in ("tab", "user_active_degree"):
        assert set(found[name]) == {"valid", "random"}
        assert all(len(values) == len(data.splits[split]) for split, values in found[name].items())
    column = data.layout.id_features.index("user_active_degree")
    for split, values in found["user_active_degree"].items():
        ids = np.asarray(data.splits[split].ids[:, column])
        assert data.vocabularies["user_active_degree"].encode(values).tolist() == ids.tolist()


@pytest.mark.parametrize(("name", "reason"), [("pirce", "Did you mean price?"), ("nothing_like_it", "There is:")])
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    dataset = tabular(tmp_path, log_table())
    with pytest.raises(InputError, match=rf"metrics\.slices: no such column {name} in log\.csv") as refused:
        read_columns(dataset, prepare(dataset, tmp_path / "cache"), [name])
    assert reason in str(refused.value)


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    table = log_table().with_columns(pl.col("tags").str.split(","))
    table.write_parquet(tmp_path / "log.parquet")
    dataset = tabular(tmp_path, path=str(tmp_path / "log.parquet"))
    with pytest.raises(InputError, match="one value per row"):
        read_columns(dataset, prepare(dataset, tmp_path / "cache"), ["tags"])


def test_a_numeric_feature_with_many_values_is_cut_into_tenths(tmp_path: Path) -> None:
    table = log_table().with_columns(length=(pl.int_range(pl.len()) * 7) % 101 * 1.0)
    data = prepare_table(tmp_path, table, features={"length": {"kind": "numeric"}, "user": {}})
    values = table.filter(LATE)["length"]
    parts = {value: rows for (name, value), rows in sliced(data, {"length": values}).items() if name == "length"}
    assert len(parts) == 10
    np.testing.assert_array_equal(sum(rows.astype(int) for rows in parts.values()), 1)
    upper = [values.to_numpy()[rows].max() for rows in parts.values()]
    assert upper == sorted(upper) and max(rows.sum() for rows in parts.values()) <= 0.2 * len(values)
    # Other columns, ids among them, keep a slice per value.
    assert ("other", OTHER) in sliced(data, {"other": values})
