"""Which split a row falls into."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.hashing import uniform
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

BY_DAY = {"by": "time", "column": "day", "valid_from": 20220508}


@pytest.mark.parametrize(
    ("day", "valid_from", "test_from"),
    [
        (pl.col("day"), 20220506, 20220509),
        (pl.col("day"), "20220506", "20220509"),
        (pl.col("day").cast(pl.Float64) + 0.5, 20220506, 20220509.25),
        (pl.col("day").cast(pl.String).str.to_date("%Y%m%d"), "2022-05-06", datetime.date(2022, 5, 9)),
        (
            pl.col("day").cast(pl.String).str.to_date("%Y%m%d").dt.to_string("%Y-%m-%d 12:00:00"),
            "2022-05-06",
            "2022-05-09",
        ),
        (pl.col("day").cast(pl.String).str.to_date("%Y%m%d").cast(pl.Datetime), "2022-05-06", "2022-05-09T00:00:00"),
    ],
    ids=["whole numbers", "text for numbers", "fractions", "dates", "ISO text", "moments"],
)
def test_by_time_takes_what_is_at_or_after_the_bounds(
    tmp_path: Path, day: pl.Expr, valid_from: Any, test_from: Any
) -> None:
    table = log_table()
    table.with_columns(when=day).write_parquet(tmp_path / "log.parquet")
    split = {"by": "time", "valid_from": valid_from, "test_from": test_from}
    data = prepare(tabular(tmp_path, path=str(tmp_path / "log.parquet"), time="when", split=split), tmp_path / "cache")
    days = table["day"].to_numpy()
    found = {name: sorted(set(days[part.rows].tolist())) for name, part in data.splits.items()}
    assert found == {
        "train": list(range(20220501, 20220506)),
        "valid": list(range(20220506, 20220509)),
        "test": [20220509, 20220510],
    }


@pytest.mark.parametrize(
    "split",
    [
        {"by": "time", "valid_from": 20220505, "calibrate_from": 20220507, "test_from": 20220509},
        {"by": "random", "valid": 0.2, "calibrate": 0.2, "test": 0.2},
        {"by": "group", "valid": 0.2, "calibrate": 0.2, "test": 0.2},
    ],
)
def test_calibration_has_rows_of_its_own(tmp_path: Path, split: dict[str, Any]) -> None:
    table = log_table(2000).with_columns(user=pl.int_range(2000) % 400)
    data = prepare_table(tmp_path, table, group="user", time="day", split=split, features={"item": {}})
    days = {name: sorted(set(table["day"].to_numpy()[part.rows].tolist())) for name, part in data.splits.items()}
    assert set(days) == {"train", "valid", "calibrate", "test"}
    if split["by"] == "time":
        assert days["calibrate"] == [20220507, 20220508] and days["valid"] == [20220505, 20220506]
    else:
        rows = {name: len(part) for name, part in data.splits.items()}
        assert sum(rows.values()) == 2000 and all(300 < rows[name] < 500 for name in ("valid", "calibrate", "test"))


def test_by_group_keeps_every_group_whole(tmp_path: Path) -> None:
    table = log_table(2000).with_columns(user=pl.int_range(2000) % 400)
    split = {"by": "group", "valid": 0.25, "test": 0.25}
    data = prepare_table(tmp_path, table, group="user", split=split, features={"item": {}})
    groups = {name: set(np.asarray(part.groups).tolist()) for name, part in data.splits.items()}
    assert not groups["train"] & groups["valid"] and not groups["train"] & groups["test"]
    assert sum(map(len, groups.values())) == 400
    assert 60 < len(groups["valid"]) < 140 and 60 < len(groups["test"]) < 140


@pytest.mark.parametrize("by", ["group", "random"])
def test_a_drawn_split_depends_on_the_seed_alone(tmp_path: Path, by: str) -> None:
    def rows(folder: str, seed: int, **changes: Any) -> list[int]:
        (tmp_path / folder).mkdir()
        split = {"by": by, "valid": 0.3, "seed": seed}
        changes = {"features": {"item": {}}, **changes}
        data = prepare_table(tmp_path / folder, split=split, group="user", **changes)
        return data.splits["valid"].rows.tolist()

    first = rows("a", 1)
    assert rows("b", 1, features={"price": {"kind": "numeric"}}) == first
    assert rows("c", 2) != first


def test_a_random_split_does_not_move_a_row_when_others_are_filtered_out(tmp_path: Path) -> None:
    split = {"by": "random", "valid": 0.3}
    whole = prepare_table(tmp_path, split=split)
    part = prepare_table(tmp_path, split=split, where="click = 1 OR buy = 0")
    fewer = prepare_table(tmp_path, split=split, where="price > 8")
    assert set(part.splits["valid"].rows.tolist()) == set(whole.splits["valid"].rows.tolist())
    assert set(fewer.splits["valid"].rows.tolist()) < set(whole.splits["valid"].rows.tolist())


def test_by_column_knows_the_usual_names(tmp_path: Path) -> None:
    names = ["train", "Valid", "val", "validation", "dev", "TEST "]
    table = log_table(600).with_columns(part=pl.Series([names[row % 6] for row in range(600)]))
    data = prepare_table(tmp_path, table, split={"by": "column", "column": "part"})
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 100, "valid": 400, "test": 100}


def test_files_for_each_split_are_taken_as_they_are(tmp_path: Path) -> None:
    table = log_table()
    for name, rows in (("train", table.head(200)), ("val", table.slice(200, 120)), ("test", table.tail(80))):
        rows.write_csv(tmp_path / f"{name}.csv")
    files = {"path": None, "root": str(tmp_path), "train": "train.csv", "valid": "val.csv", "test": "test.csv"}
    data = prepare(tabular(tmp_path, **files, split={}), tmp_path / "cache")
    assert [part.labels[:, 0].tolist() for part in data.splits.values()] == [
        table["click"].head(200).to_list(),
        table["click"].slice(200, 120).to_list(),
        table["click"].tail(80).to_list(),
    ]
    without = prepare(tabular(tmp_path, **{**files, "test": None}, split={}), tmp_path / "cache")
    assert list(without.splits) == ["train", "valid"]


def test_draws_are_uniform_and_independent_between_sites() -> None:
    keys = np.arange(200_000, dtype=np.uint64)
    first, second = uniform(keys, 3, "split"), uniform(keys, 3, "downsample")
    assert first.min() >= 0 and first.max() < 1
    counts = np.histogram(first, bins=100, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 170  # chi-squared of 99 degrees: passed by chance 1 time in 100,000
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(keys))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"by": "tiem"}}, r"dataset.split.by should be one of .* Received: tiem. Did you mean time\?"),
        (
            {"split": {"by": "time", "valid_form": 3}},
            r"dataset.split.valid_form: no such key. Did you mean valid_from\?",
        ),
        ({"split": {"by": "random"}}, r"dataset.split.valid should be a share between 0 and 1 to split by random"),
        ({"split": {"by": "random", "valid": 1.5}}, r"dataset.split.valid should be a share .* Received: 1.5"),
        ({"split": {"by": "random", "valid": 0.6, "test": 0.4}}, r"should leave rows to train on"),
        ({"split": {"by": "random", "valid": 0.5, "seed": "x"}}, r"dataset.split.seed should be a whole number"),
        ({"split": {"by": "time", "column": "day"}}, r"dataset.split.valid_from should say where validation begins"),
        ({"split": {"by": "time", "valid_from": 3}}, r"dataset.split.column or dataset.time should name a column"),
        ({"split": {"by": "column"}}, r"dataset.split.column should name a column to split by column"),
        ({"split": {"by": "time", "column": "day", "valid_from": "May"}}, r"should be written as column day is .* May"),
        (
            {"split": {"by": "time", "column": "day", "valid_from": 20230101}},
            r"valid split .* none, with valid_from=2023",
        ),
        ({"split": {"by": "time", "column": "day", "valid_from": 20200101}}, r"The training split should have rows"),
        (
            {"split": {"by": "time", "column": "day", "valid_from": 20220508, "test_from": 20230101}},
            r"The test split should have rows",
        ),
        (
            {"split": {"by": "time", "column": "day", "valid_from": 20220508, "calibrate": 0.1}},
            r"since calibrate=0.1 does not",
        ),
        ({"split": {"by": "random", "valid": 0.2, "test_from": 3}}, r"since test_from does not split by random"),
        (
            {"split": {"by": "time", "valid_from": 20230101}, "time": "day"},
            r"where day runs from 2022\d+ to 2022\d+: ",
        ),
        (
            {"split": {"by": "column", "column": "item"}},
            r"column item should hold train, valid or test in every row. In",
        ),
        (
            {"split": {"by": "time", "column": "dya", "valid_from": 3}},
            r"dataset.split.column: no such column dya .*day\?",
        ),
        ({"split": {"by": "time", "column": "item", "valid_from": "i3"}}, r"a date that begins with the year"),
        ({"where": "price > 1000"}, r"The training split should have rows"),
    ],
)
def test_a_split_that_cannot_be_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        prepare_table(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_a_null_in_the_time_column_is_refused(tmp_path: Path) -> None:
    table = log_table().with_columns(day=pl.when(pl.int_range(400) == 17).then(None).otherwise("day"))
    with pytest.raises(InputError, match=r"In 1 rows it is null, the first of which is row 17 \(from 0\)"):
        prepare_table(tmp_path, table)


@pytest.mark.parametrize(("valid", "test"), [(0.2, None), (0.25, 0.1)])
def test_a_split_by_group_has_exactly_its_share_of_groups(tmp_path: Path, valid: float, test: float | None) -> None:
    table = log_table(3000).with_columns(user=pl.Series(np.random.default_rng(3).integers(0, 171, 3000)))
    split = {"by": "group", "valid": valid, "test": test, "seed": 4}
    found = prepare_table(tmp_path, table, group="user", split=split, features={"item": {}}).statistics["splits"]
    assert found["valid"]["users"] == round(valid * 171)
    assert found["test"]["users"] == round((test or 0) * 171) if test else "test" not in found


def test_new_groups_are_what_a_split_by_group_has_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = {"by": "group", "valid": 0.25}
    for _ in ("prepared", "from the cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="funrec"):
            prepare_table(tmp_path, group="user", split=split)
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith("dataset.features.user: all 5 groups of the valid split are new to the model")
    with pytest.raises(InputError, match=r"no value in the \d+ rows of the valid split was seen"):
        prepare_table(tmp_path, log_table().with_columns(copy="user"), group="user", split=split, features={"copy": {}})


def test_training_rows_are_sampled_by_the_seed_and_the_other_splits_are_whole(tmp_path: Path) -> None:
    whole = prepare_table(tmp_path)
    samples = []
    for seed in (0, 0, 1):
        split = {"by": "time", "column": "day", "valid_from": 20220508, "seed": seed}
        data = prepare_table(tmp_path, max_train_rows=100, split=split)
        assert data.row_fingerprints["valid"] == whole.row_fingerprints["valid"]
        samples.append(np.asarray(data.splits["train"].rows))
        assert len(samples[-1]) == 100 and (np.diff(samples[-1]) > 0).all()
    assert (samples[0] == samples[1]).all() and (samples[0] != samples[2]).any()
    everything = prepare_table(tmp_path, max_train_rows=10_000)
    assert everything.row_fingerprints == whole.row_fingerprints
