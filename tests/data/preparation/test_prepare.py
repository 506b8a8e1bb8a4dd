"""What every dataset's arrays keep to, whatever the rows come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.arrays import SequenceArrays
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

ALL_KINDS: dict[str, Any] = {
    "user": {},
    "item": {"min_count": 2},
    "price": {"kind": "numeric"},
    "hours": {"kind": "numeric", "column": "hours-per-week", "quantiles": 4},
    "age": {"kind": "numeric", "column": "hours-per-week", "boundaries": [10, 20]},
    "tags": {"kind": "sequence", "max_length": 2},
    "first_tag": {"column": "tags", "hash_buckets": 16},
}


def test_the_arrays_hold_the_rows_of_the_table(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, features=ALL_KINDS, group="user", item="item", time="day")
    assert data.layout.id_features == ("user", "item", "hours", "age", "first_tag")
    assert data.layout.numeric_features == ("price",) and set(data.splits["train"].sequences) == {"tags"}
    assert data.group_keys is not None and data.item_keys is not None
    for name, days in (("train", range(20220501, 20220508)), ("valid", range(20220508, 20220511))):
        split = data.splits[name]
        expected = table.with_row_index("row").filter(pl.col("day").is_in(list(days)))
        assert split.rows.tolist() == expected["row"].to_list()
        assert split.labels[:, 0].tolist() == expected["click"].to_list()
        assert split.groups is not None and split.items is not None
        assert data.group_keys.gather(split.groups).to_list() == expected["user"].to_list()
        assert data.item_keys.gather(split.items).to_list() == expected["item"].to_list()
        users = [None, *data.vocabularies["user"].keys.to_list()]
        assert [users[row] for row in split.ids[:, 0]] == expected["user"].to_list()
        mean, scale = data.encoders["price"].mean, data.encoders["price"].scale
        assert np.allclose(split.numeric[:, 0] * scale + mean, expected["price"], atol=1e-4)
        ages = np.digitize(expected["hours-per-week"], [10, 20]) + 1
        assert (split.ids[:, 3] == ages).all()
        tags = [None, *data.vocabularies["tags"].keys.to_list()]
        padded = split.sequences["tags"].padded(np.arange(len(split)), 3)
        texts = [[tags[row] for row in rows if row >= 0] for rows in padded]
        assert texts == [[t for t in (text or "").split(",") if t][:2] for text in expected["tags"]]
        assert len(split) == expected.height and split.masks is None and split.weights is None


def test_dtypes_and_shapes_are_as_promised(tmp_path: Path) -> None:
    data = prepare_table(tmp_path, features=ALL_KINDS, group="user")
    split = data.splits["train"]
    rows = len(split)
    assert (split.ids.dtype, split.ids.shape) == (np.int32, (rows, 5))
    assert (split.numeric.dtype, split.numeric.shape) == (np.float32, (rows, 1))
    assert (split.labels.dtype, split.labels.shape) == (np.float32, (rows, 1))
    assert split.rows.dtype == np.int64
    assert split.groups is not None and split.groups.dtype == np.int32 and split.items is None
    assert split.sequences["tags"].offsets.dtype == np.int64 and split.sequences["tags"].values.dtype == np.int32
    assert isinstance(split.ids, np.memmap) and not split.ids.flags.writeable
    json.dumps(dict(data.statistics))


def test_validation_teaches_nothing(tmp_path: Path) -> None:
    table = log_table()
    late = pl.col("day") >= 20220508
    other = table.with_columns(
        user=pl.when(late).then(pl.col("user") + 5).otherwise("user"),
        price=pl.when(late).then(1000.0).otherwise("price"),
        tags=pl.when(late).then(pl.lit("1,99")).otherwise("tags"),
    )
    states = []
    for name, rows in (("a", table), ("b", other)):
        (tmp_path / name).mkdir()
        data = prepare_table(tmp_path / name, rows, features=ALL_KINDS)
        learned = {key: vocabulary.keys.to_list() for key, vocabulary in data.vocabularies.items()}
        states.append(
            (learned, data.encoders["price"], data.encoders["hours"].boundaries, data.splits["train"].ids.tolist())
        )
    assert states[0] == states[1]
    unseen = ~other.filter(late)["user"].is_in(table.filter(~late)["user"].unique().to_list()).to_numpy()
    assert unseen.any() and (data.splits["valid"].ids[unseen, 0] == 0).all()


def test_a_sharing_feature_uses_one_vocabulary_learned_from_the_union(tmp_path: Path) -> None:
    table = log_table().with_columns(history=pl.lit("i1,i2,i77"))
    features = {"item": {}, "history": {"kind": "sequence", "share_with": "item"}}
    data = prepare_table(tmp_path, table, features=features)
    assert set(data.layout.cardinalities) == {"item"} == set(data.vocabularies)
    keys = [None, *data.vocabularies["item"].keys.to_list()]
    assert "i77" in keys
    assert [keys[row] for row in data.splits["valid"].sequences["history"].values[:3]] == ["i1", "i2", "i77"]


def test_numbers_are_standardised_on_the_training_split_and_a_constant_is_no_trouble(tmp_path: Path) -> None:
    table = log_table().with_columns(constant=pl.lit(0.1))
    data = prepare_table(tmp_path, table, features={"price": {"kind": "numeric"}, "constant": {"kind": "numeric"}})
    train = np.asarray(data.splits["train"].numeric)
    assert train[:, 0].mean() == pytest.approx(0, abs=1e-5) and train[:, 0].std() == pytest.approx(1, abs=1e-5)
    assert np.abs(train[:, 1]).max() < 1e-6


def test_fill_stands_in_for_null_and_nan(tmp_path: Path) -> None:
    table = log_table().with_columns(price=pl.when(pl.col("user") < 5).then(None).otherwise("price"))
    data = prepare_table(tmp_path, table, features={"price": {"kind": "numeric", "fill": 7}, "user": {}})
    mean, scale = data.encoders["price"].mean, data.encoders["price"].scale
    split = data.splits["valid"]
    missing = table["user"].to_numpy()[split.rows] < 5
    assert split.numeric[missing, 0] * scale + mean == pytest.approx(7, abs=1e-4)


def test_quantiles_fill_their_buckets_equally_and_set_a_heavy_value_apart(tmp_path: Path) -> None:
    table = log_table(2000).with_columns(gain=pl.when(pl.col("click") == 1).then(pl.col("price")).otherwise(0.0))
    features = {
        "price": {"kind": "numeric", "quantiles": 4},
        "gain": {"kind": "numeric", "quantiles": 3},
    }
    data = prepare_table(tmp_path, table, features=features, tasks={"buy": {}})
    counts = np.bincount(data.splits["train"].ids[:, 0], minlength=5)
    assert data.layout.cardinalities["price"] == 5 and counts[0] == 0 and np.ptp(counts[1:]) <= 2
    gains = table["gain"].to_numpy()[data.splits["train"].rows]
    zero_bucket = set(data.splits["train"].ids[gains == 0, 1].tolist())
    assert len(zero_bucket) == 1 and not zero_bucket & set(data.splits["train"].ids[gains > 5, 1].tolist())


def test_where_masks_rows_and_null_conditions_do_not_hold(tmp_path: Path) -> None:
    table = log_table().with_columns(
        buy=pl.when(pl.col("click") == 1).then("buy"),
        rating=pl.when(pl.col("user") > 3).then("rating"),
    )
    tasks = {"click": {}, "buy": {"where": "click"}, "rating": {"kind": "regression", "where": "rating > -100"}}
    data = prepare_table(tmp_path, table, tasks=tasks)
    split = data.splits["train"]
    rows = table.with_row_index().filter(pl.col("index").is_in(split.rows.tolist()))
    assert split.masks is not None
    assert split.masks[:, 0].all()
    assert split.masks[:, 1].tolist() == (rows["click"] == 1).to_list()
    assert split.masks[:, 2].tolist() == (rows["user"] > 3).to_list()
    assert not split.labels[~split.masks].any()
    assert data.statistics["splits"]["train"]["tasks"]["buy"]["rows"] == rows["click"].sum()


def test_labels_may_be_sql_over_columns_with_odd_names(tmp_path: Path) -> None:
    table = log_table().with_columns(pl.col("price").alias("109_14"), pl.col("click").alias("is-clicked"))
    tasks = {
        "long": {"label": '"hours-per-week" > 30'},
        "dear": {"label": '"109_14" > 10'},
        "c": {"label": "is-clicked"},
    }
    data = prepare_table(tmp_path, table, tasks=tasks)
    rows = table.gather(data.splits["valid"].rows)
    expected = rows.select(rows["hours-per-week"] > 30, rows["109_14"] > 10, rows["is-clicked"] == 1)
    assert (data.splits["valid"].labels == expected.to_numpy()).all()


def test_dataset_where_and_max_rows_take_the_first_rows_that_meet_it(tmp_path: Path) -> None:
    table = log_table()
    split = {"by": "random", "valid": 0.3}
    data = prepare_table(tmp_path, table, where='"user" IN (1,2,3,4,5,6)', max_rows=50, split=split)
    rows = np.sort(np.concatenate([part.rows for part in data.splits.values()]))
    expected = table.with_row_index().filter(pl.col("user").is_in([1, 2, 3, 4, 5, 6])).head(50)["index"]
    assert rows.tolist() == expected.to_list()


def test_row_weights_reach_training_alone(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, row_weight="1 + price * price", tasks={"click": {}, "buy": {}})
    weights = data.splits["train"].weights
    assert weights is not None and data.splits["valid"].weights is None
    expected = 1 + table["price"].to_numpy()[data.splits["train"].rows] ** 2
    assert np.allclose(weights, np.stack([expected, expected], axis=1))


def test_downsampling_keeps_a_share_of_the_training_negatives_and_weighs_them_up(tmp_path: Path) -> None:
    table = log_table(20_000)
    tasks = {"click": {}, "buy": {"after": "click"}, "rating": {"kind": "regression"}}
    rate = 0.25
    full = prepare_table(tmp_path, table, tasks=tasks)
    data = prepare_table(tmp_path, table, tasks=tasks, downsample={"task": "click", "rate": rate})
    train, before = data.splits["train"], full.splits["train"]
    positives = train.labels[:, 0] == 1
    assert positives.sum() == (before.labels[:, 0] == 1).sum()
    negatives = int((before.labels[:, 0] == 0).sum())
    assert abs((~positives).sum() - rate * negatives) < 5 * np.sqrt(negatives * rate * (1 - rate))
    assert train.weights is not None
    assert (train.weights[:, 0] == 1).all() and (train.weights[positives] == 1).all()
    assert (train.weights[~positives, 1:] == 1 / rate).all()
    assert data.logit_offsets == {"click": pytest.approx(np.log(rate))}
    assert data.row_fingerprints["valid"] == full.row_fingerprints["valid"]
    # What the corrections are for: the odds of the sampled task, and the weighted mean of another, are as before.
    odds = positives.mean() / (1 - positives.mean()) * rate
    true = before.labels[:, 0].mean()
    assert odds == pytest.approx(true / (1 - true), rel=0.06)
    weighted = np.average(train.labels[:, 2], weights=train.weights[:, 2])
    assert weighted == pytest.approx(before.labels[:, 2].mean(), abs=0.06)


def test_nesting_is_counted_where_both_labels_are_known(tmp_path: Path) -> None:
    table = log_table().with_columns(buy=pl.when(pl.col("user") == 3).then(1).otherwise("buy"))
    data = prepare_table(tmp_path, table, tasks={"click": {}, "buy": {"after": "click"}})
    rows = table.gather(data.splits["train"].rows)
    counts = data.statistics["splits"]["train"]["nesting"]["buy"]
    assert counts == {
        "parent": "click",
        "rows": rows.height,
        "positives": rows["buy"].sum(),
        "violations": rows.filter((pl.col("buy") == 1) & (pl.col("click") == 0)).height,
    }
    assert counts["violations"] > 0


def test_statistics_count_what_the_splits_hold(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, group="user", item="item", time="day", features={"user": {}, "item": {}})
    rows = table.gather(data.splits["valid"].rows)
    valid = data.statistics["splits"]["valid"]
    assert valid["rows"] == rows.height and valid["users"] == rows["user"].n_unique()
    assert valid["items"] == rows["item"].n_unique() and valid["time_range"] == [20220508, 20220510]
    assert valid["tasks"]["click"]["positive_rate"] == pytest.approx(rows["click"].mean())
    assert data.statistics["users"] == table["user"].n_unique() and data.statistics["rows"] == table.height
    assert valid["oov_rate"] == {"user": 0.0, "item": 0.0}


def test_encoding_raw_rows_gives_the_prepared_arrays(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, features=ALL_KINDS)
    for raw in (table, table.cast(pl.String), table.with_columns(pl.col("user").cast(pl.Float64))):
        encoded = data.encode(raw.drop("click"))
        for split in data.splits.values():
            assert (encoded.ids[split.rows] == split.ids).all()
            assert np.allclose(encoded.numeric[split.rows], split.numeric, atol=1e-6)
            padded = encoded.sequences["tags"].padded(split.rows, 2)
            assert (padded == split.sequences["tags"].padded(np.arange(len(split)), 2)).all()
    assert data.encode(table.with_columns(user=pl.lit(-1))).ids[:, 0].tolist() == [0] * table.height
    with pytest.raises(InputError, match="Rows should have column price, which feature price is read from"):
        data.encode(table.drop("price"))


def test_rows_longer_than_one_batch_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = log_table(1000)
    features = {"user": {}, "tags": {"kind": "sequence"}}
    whole = prepare_table(tmp_path, table, features=features, group="user")
    monkeypatch.setattr("funrec.data.preparation.staging.ROWS_PER_BATCH", 37)
    pieces = prepare(tabular(tmp_path, features=features, group="user"), tmp_path / "another")
    assert pieces.row_fingerprints == whole.row_fingerprints
    for name, split in whole.splits.items():
        assert (pieces.splits[name].ids == split.ids).all()
        assert (pieces.splits[name].sequences["tags"].offsets == split.sequences["tags"].offsets).all()


def test_row_fingerprints_tell_rows_apart_and_not_features(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, group="user")
    same = prepare_table(tmp_path, table, group="user", features={"price": {"kind": "numeric"}})
    assert same.row_fingerprints == data.row_fingerprints and same.fingerprint != data.fingerprint
    relabelled = prepare_table(tmp_path, table, group="user", tasks={"click": {"label": "buy"}})
    regrouped = prepare_table(tmp_path, table, group="item")
    fewer = prepare_table(tmp_path, table, group="user", where='"user" > 0')
    for other in (relabelled, regrouped, fewer):
        assert other.row_fingerprints["valid"] != data.row_fingerprints["valid"]


def test_padded_cuts_and_pads() -> None:
    lists = SequenceArrays(np.array([0, 2, 2, 5]), np.array([7, 8, 1, 2, 3], dtype=np.int32))
    assert lists.padded(np.array([2, 0, 1, 2]), 2).tolist() == [[1, 2], [7, 8], [-1, -1], [1, 2]]
    assert lists.padded(np.array([0, 2]), 4).tolist() == [[7, 8, -1, -1], [1, 2, 3, -1]]
    assert lists.padded(np.array([], dtype=int), 4).shape == (0, 4) and len(lists) == 3
