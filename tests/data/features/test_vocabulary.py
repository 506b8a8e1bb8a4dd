"""Which embedding row a raw value gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from funrec.data.features.vocabulary import Vocabulary, count_vocabulary
from funrec.data.hashing import stable_hash


def learn(values: pl.Series, key: str, **arguments: int) -> Vocabulary:
    return count_vocabulary([values.to_frame("value").lazy()], key, **arguments)


def test_the_most_frequent_value_comes_first_and_ties_follow_the_values_with_null_last() -> None:
    vocabulary = learn(pl.Series(["b", "c", "c", "a", "b", None, "c", "a", None, "d"]), "String")
    assert vocabulary.keys.to_list() == ["c", "a", "b", None, "d"]
    assert vocabulary.counts.to_list() == [3, 2, 2, 2, 1]
    assert len(vocabulary) == 6


def test_values_rarer_than_min_count_and_unknown_ones_share_row_0() -> None:
    vocabulary = learn(pl.Series([7, 7, 7, 8, 8, 9]), "Int64", min_count=2)
    assert vocabulary.encode(pl.Series([7, 8, 9, 10])).tolist() == [1, 2, 0, 0]


def test_max_vocabulary_keeps_the_most_frequent() -> None:
    vocabulary = learn(pl.Series([1, 2, 2, 3, 3, 3]), "Int64", max_vocabulary=2)
    assert vocabulary.keys.to_list() == [3, 2]
    assert vocabulary.encode(pl.Series([1, 2, 3])).tolist() == [0, 2, 1]


@pytest.mark.parametrize("values", [[1, 1, None], ["a", "a", None], [0.5, 0.5, None]])
def test_a_null_is_a_value_of_its_own_where_training_held_one(values: list[object]) -> None:
    series = pl.Series(values)
    key = {pl.Int64: "Int64", pl.String: "String", pl.Float64: "Float64"}[series.dtype.base_type()]
    assert learn(series, key).encode(series).tolist() == [1, 1, 2]
    assert learn(series.drop_nulls(), key).encode(series).tolist() == [1, 1, 0]


def test_nan_counts_as_null_and_minus_zero_as_zero() -> None:
    vocabulary = learn(pl.Series([0.0, 0.0, -0.0, float("nan"), None]), "Float64")
    assert vocabulary.keys.to_list() == [0.0, None]
    assert vocabulary.encode(pl.Series([-0.0, 0.0, float("nan"), None])).tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("key", "learned", "arriving", "rows"),
    [
        ("Int64", [3, 3, 5], ["3", " 5 ", "x", None], [1, 2, 0, 0]),
        ("Int64", [3, 3, 5], [3.0, 5.0, 3.5, None], [1, 2, 0, 0]),
        ("String", ["3", "3", "5"], [3, 5, 6, None], [1, 2, 0, 0]),
        ("String", ["3", "3", "5"], [3.0, 5.0, 3.5, None], [1, 2, 0, 0]),
        ("Float64", [3.0, 3.0, 0.5], [3, 4, None], [1, 0, 0]),
        ("Float64", [3.0, 3.0, 0.5], ["3", "0.50", "x"], [1, 2, 0]),
        ("String", ["true", "true", "false"], [True, False], [1, 2]),
    ],
)
def test_a_value_is_found_whatever_dtype_it_arrives_as(
    key: str, learned: list[object], arriving: list[object], rows: list[int]
) -> None:
    assert learn(pl.Series(learned), key).encode(pl.Series(arriving)).tolist() == rows


def test_a_value_that_does_not_fit_the_keys_is_unknown_even_where_null_is_known() -> None:
    vocabulary = learn(pl.Series([3, 3, None]), "Int64")
    assert vocabulary.encode(pl.Series(["x", "3", None])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("span", [50, 10**12], ids=["a table by value", "a hash"])
@pytest.mark.parametrize("distinct", [40, 300_000], ids=["few", "many"])
def test_whole_numbers_are_found_near_together_and_far_apart_few_and_many(span: int, distinct: int) -> None:
    random = np.random.default_rng(0)
    keys = random.permutation(np.unique(random.integers(-span, span, distinct)))
    vocabulary = Vocabulary(pl.Series(keys), None, "Int64")
    unknown = np.setdiff1d(np.array([-span - 5, span + 5, span + 10**13]), keys)
    assert (vocabulary.encode(pl.Series(keys)) == np.arange(1, len(keys) + 1)).all()
    assert not vocabulary.encode(pl.Series(unknown)).any()


def test_text_that_polars_has_numbered_is_encoded_as_text_is() -> None:
    text = pl.Series(["b", None, "a", "b", "z"])
    vocabulary = learn(pl.Series(["a", "b", "b", None]), "String")
    for dtype in (pl.Categorical(), pl.Enum(["z", "a", "b"])):
        assert vocabulary.encode(text.cast(dtype)).tolist() == vocabulary.encode(text).tolist() == [1, 3, 2, 1, 0]


def test_hashing_needs_no_vocabulary_and_never_yields_row_0() -> None:
    vocabulary = Vocabulary(None, None, "String", hash_buckets=7)
    rows = vocabulary.encode(pl.Series([f"v{i}" for i in range(1000)] + [None]))
    assert len(vocabulary) == 8
    assert set(rows.tolist()) == set(range(1, 8))


@pytest.mark.slow
def test_hashes_are_the_same_in_every_process_and_version() -> None:
    assert stable_hash(pl.Series(["a", "b", None]), "String").tolist() == [
        13950350942979735504,
        12688059582079114975,
        1853189228,
    ]
    assert stable_hash(pl.Series([0, 1, -1]), "Int64").tolist() == [
        16294208416658607535,
        10451216379200822465,
        16490336266968443936,
    ]
    zeros = stable_hash(pl.Series([0.0, -0.0]), "Float64")
    assert zeros[0] == zeros[1]
    code = (
        "import polars as pl; from funrec.data.hashing import stable_hash; "
        "print(stable_hash(pl.Series(['a']), 'String'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[13950350942979735504]"


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    vocabulary = learn(pl.Series(["b", None, "b"]), "String")
    vocabulary.save(tmp_path / "v.parquet")
    read = Vocabulary.load(tmp_path / "v.parquet", "String")
    assert read.keys.to_list() == ["b", None] and read.counts.to_list() == [2, 1]
