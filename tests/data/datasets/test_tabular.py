"""Tables in files of any kind."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.prepare import prepare

CONF = str(Path(__file__).parents[3] / "conf")


def load(*overrides: str) -> Dataset:
    return build(compose(overrides)["dataset"], Dataset, "dataset")


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "csv.zst", "parquet", "glob", "folder", "parquet folder"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    table = log_table()
    expected = prepare_table(tmp_path, table)
    path = tmp_path / "files" / f"rows.{kind}"
    path.parent.mkdir()
    if kind == "tsv":
        table.write_csv(path, separator="\t")
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(table.write_csv().encode()))
    elif kind == "csv.zst":
        table.write_csv(path, compression="zstd")
    elif kind == "parquet":
        table.write_parquet(path)
    elif kind in ("glob", "folder", "parquet folder"):
        for start, suffix in ((0, "a"), (150, "b")):
            part, name = table.slice(start, 150 if start == 0 else None), tmp_path / "files" / f"part_{suffix}"
            part.write_parquet(f"{name}.parquet") if kind.startswith("parquet") else part.write_csv(f"{name}.csv")
        path = path.parent / "part_*.csv" if kind == "glob" else path.parent
    else:
        table.write_csv(path)
    data = prepare(tabular(tmp_path, path=str(path)), tmp_path / "cache")
    for name, split in expected.splits.items():
        assert (data.splits[name].ids == split.ids).all() and (data.splits[name].rows == split.rows).all()


def test_a_path_is_looked_for_under_root_and_then_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    log_table(400, seed=1).write_csv(tmp_path / "root" / "log.csv")
    log_table(410, seed=2).write_csv(tmp_path / "log.csv")
    log_table(420, seed=3).write_csv(tmp_path / "other.csv")
    rows = {
        path: prepare(tabular(tmp_path, path=path, root="root"), tmp_path / "cache").statistics["rows"]
        for path in ("log.csv", "other.csv")
    }
    assert rows == {"log.csv": 400, "other.csv": 420}


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    log_table().write_csv(tmp_path / "log[1].csv")
    log_table(50).write_csv(tmp_path / "log1.csv")
    assert prepare(tabular(tmp_path, path=str(tmp_path / "log[1].csv")), tmp_path / "c").statistics["rows"] == 400


def test_dtypes_and_null_values_say_how_text_is_read(tmp_path: Path) -> None:
    table = log_table().with_columns(code=pl.Series([f"{row % 9:03d}" for row in range(400)]))
    data = prepare_table(tmp_path, table, features={"code": {}}, dtypes={"code": "text"}, null_values=["004"])
    keys = data.vocabularies["code"].keys.to_list()
    assert "003" in keys and None in keys and "004" not in keys


def test_sequences_of_one_value_that_look_like_numbers_are_sequences_still(tmp_path: Path) -> None:
    table = log_table().with_columns(last=pl.col("user"))
    features = {"last": {"kind": "sequence"}, "user": {}}
    data = prepare_table(tmp_path, table, features=features)
    assert (data.splits["valid"].sequences["last"].offsets[1:] == range(1, len(data.splits["valid"]) + 1)).all()


def test_lists_in_parquet_are_sequences_and_a_categorical_takes_the_first(tmp_path: Path) -> None:
    table = log_table().with_columns(pl.col("tags").str.split(",").list.eval(pl.element().cast(pl.Int64, strict=False)))
    table = table.with_columns(pl.col("tags").list.drop_nulls())
    table.write_parquet(tmp_path / "log.parquet")
    features = {"tags": {"kind": "sequence"}, "first": {"column": "tags"}}
    data = prepare(tabular(tmp_path, path=str(tmp_path / "log.parquet"), features=features), tmp_path / "cache")
    split = data.splits["valid"]
    keys = [None, *data.vocabularies["first"].keys.to_list()]
    expected = [tags[0] if tags else None for tags in table["tags"].gather(split.rows).to_list()]
    assert [keys[row] for row in split.ids[:, 0]] == expected
    written_out = table.with_columns(tags=pl.col("tags").cast(pl.List(pl.String)).list.join(","))
    encoded = data.encode(written_out)
    assert (encoded.ids[split.rows] == split.ids).all()


def test_overriding_one_feature_leaves_the_others_alone() -> None:
    dataset = load("dataset=kuairand_pure", "dataset.features.user_id.embedding_dim=16", "dataset.drop=[tag]")
    widths = {feature.name: feature.embedding_dim for feature in dataset.features}
    assert widths.pop("user_id") == 16 and set(widths.values()) == {8} and "tag" not in widths


def test_adult_as_published_splits_and_says_why_marriage_is_no_feature(shared_data: Path, tmp_path: Path) -> None:
    path = f"dataset.path={shared_data}/adult/adult.csv"
    data = prepare(load("dataset=adult", path), tmp_path)
    splits = data.statistics["splits"]
    assert splits["train"]["rows"] + splits["valid"]["rows"] == 48_842 == data.statistics["rows"]
    assert splits["train"]["tasks"]["income"]["positive_rate"] == pytest.approx(0.239, abs=0.005)
    assert splits["train"]["tasks"]["never_married"]["positive_rate"] == pytest.approx(0.33, abs=0.005)
    assert data.statistics["users"] is None
    for column, reason in (("marital-status", "task never_married is read from"), ("relationship", "Husband and Wife")):
        with pytest.raises(ValueError, match=reason):
            prepare(load("dataset=adult", path, f"+dataset.features.{column}={{}}"), tmp_path)


def test_ali_ccp_takes_its_sample(shared_data: Path, tmp_path: Path) -> None:
    data = prepare(load("dataset=ali_ccp", f"dataset.root={shared_data}/ali_ccp_sample"), tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 100, "valid": 50, "test": 50}
    assert len(data.layout.id_features) == 23 and len(data.layout.numeric_features) == 8
    assert data.statistics["splits"]["train"]["nesting"]["purchase"]["violations"] == 0


def test_a_preset_without_its_files_says_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no such file: data/adult/adult.csv.*https://archive.ics.uci.edu/dataset/2"):
        prepare(load("dataset=adult"), tmp_path)
