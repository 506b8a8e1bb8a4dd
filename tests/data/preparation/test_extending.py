"""Rows read in the terms of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.arrays import save_inputs
from funrec.data.features.vocabulary import Vocabulary
from funrec.data.preparation.extending import Known
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

FEATURES: dict[str, Any] = {
    "item": {"min_count": 2},
    "price": {"kind": "numeric"},
    "hours": {"kind": "numeric", "column": "hours-per-week", "quantiles": 4},
    "user": {},
}


@pytest.fixture
def known(tmp_path: Path) -> Known:
    """A run on the first days, in which some items and users were not there."""
    early = log_table().filter(pl.col("item").is_in(["i13", "i14"]).not_(), pl.col("user") > 3)
    data = prepare_table(tmp_path, early, features=FEATURES)
    save_inputs(data, tmp_path / "run" / "model")
    return Known.read(tmp_path / "run")


def vocabulary(keys: list[Any], counts: list[int]) -> Vocabulary:
    return Vocabulary(pl.Series(keys), pl.Series(counts), "Int64" if isinstance(keys[0], int) else "String")


def test_known_values_keep_their_rows_and_new_ones_follow_by_their_count() -> None:
    extended = vocabulary([7, 3, None], [9, 4, 1]).extended(vocabulary([5, 3, 8], [6, 5, 2]))
    assert extended.keys.to_list() == [7, 3, None, 5, 8]
    assert extended.counts.to_list() == [9, 9, 1, 6, 2]


def test_new_values_fill_what_max_vocabulary_leaves_and_drive_no_known_one_out() -> None:
    before, newer = vocabulary(["a", "b"], [9, 4]), vocabulary(["c", "d"], [6, 2])
    assert before.extended(newer, most=3).keys.to_list() == ["a", "b", "c"]
    assert before.extended(newer, most=1).keys.to_list() == ["a", "b"]


def test_ids_and_numbers_are_read_as_before_and_ids_that_only_the_earlier_run_knows_stay_known(
    known: Known, tmp_path: Path
) -> None:
    late = log_table(seed=1).filter(pl.col("user") != 9)
    late = pl.concat([late, log_table(seed=2).filter(pl.col("user") == 9, pl.col("day") >= 20220508)])
    dataset = tabular(tmp_path, late, features=FEATURES)
    data = prepare(dataset, tmp_path / "cache", known)
    before = known.inputs
    for name, first in before.vocabularies.items():
        assert data.vocabularies[name].keys.to_list()[: len(first) - 1] == first.keys.to_list()
    assert data.vocabularies["item"].keys.to_list()[-2:] in (["i13", "i14"], ["i14", "i13"])
    assert data.encoders["price"].mean == before.encoders["price"].mean
    assert list(data.encoders["hours"].boundaries or ()) == list(before.encoders["hours"].boundaries or ())
    row = before.vocabularies["user"].keys.to_list().index(9) + 1
    assert not (data.splits["train"].ids[:, 2] == row).any() and (data.splits["valid"].ids[:, 2] == row).any()


def test_the_data_has_the_same_fingerprint_in_an_entry_of_its_own(known: Known, tmp_path: Path) -> None:
    dataset = tabular(tmp_path, log_table(seed=1), features=FEATURES)
    alone, together = prepare(dataset, tmp_path / "cache"), prepare(dataset, tmp_path / "cache", known)
    assert alone.fingerprint == together.fingerprint and alone.path != together.path
    assert not np.array_equal(alone.splits["train"].ids, together.splits["train"].ids)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"user": None}, "without user"),
        ({"first_tag": {"column": "tags"}}, "also first_tag"),
        ({"hours": {"kind": "numeric", "column": "hours-per-week", "quantiles": 5}}, "hours.quantiles=5 instead of 4"),
        ({"item": None, "user": {}}, "without item"),
    ],
)
def test_other_features_are_refused_in_one_line(
    known: Known, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    features = {name: value for name, value in {**FEATURES, **change}.items() if value is not None}
    with pytest.raises(InputError, match=rf"Received: {problem}\. Choose the same") as refused:
        known.check_features(tabular(tmp_path, log_table(), features=features))
    assert "\n" not in str(refused.value)


def test_features_in_another_order_and_ids_of_another_kind_are_refused(known: Known, tmp_path: Path) -> None:
    turned = dict(reversed(FEATURES.items()))
    with pytest.raises(InputError, match="the order user, hours, price, item"):
        known.check_features(tabular(tmp_path, log_table(), features=turned))
    texts = log_table().with_columns(user=pl.lit("u") + pl.col("user").cast(pl.String))
    with pytest.raises(InputError, match=r"dataset\.features\.user should hold Int64 values"):
        prepare(tabular(tmp_path, texts, features=FEATURES), tmp_path / "cache", known)
