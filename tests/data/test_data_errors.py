"""Every way in which rows, columns or a data configuration can be wrong ends in one line that says so."""

from __future__ import annotations

import gzip
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError


def refused(folder: Path, message: str, table: pl.DataFrame | None = None, **changes: Any) -> None:
    with pytest.raises(InputError, match=message) as error:
        prepare_table(folder, table, **changes)
    assert "\n" not in str(error.value)
    left = [path.name for path in (folder / "cache").glob("*") if path.suffix != ".lock"]
    assert not left, "a refused preparation should leave nothing behind"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"usr": {}}}, r"^dataset.features.usr: no such column in log.csv. Did you mean user\?"),
        ({"features": {"x": {"column": "usr"}}}, r"^dataset.features.x.column: no such column usr in log.csv. Did you"),
        ({"tasks": {"clik": {}}}, r"^dataset.tasks.clik.label: no such column clik in log.csv. Did you mean click\?"),
        (
            {"tasks": {"c": {"label": "clik = 1"}}},
            r"^dataset.tasks.c.label: no such column clik .* Did you mean click\?",
        ),
        ({"tasks": {"click": {"where": "byu = 1"}}}, r"^dataset.tasks.click.where: no such column byu"),
        ({"group": "usr"}, r"^dataset.group: no such column usr in log.csv. Did you mean user\?"),
        ({"item": "itm"}, r"^dataset.item: no such column itm in log.csv. Did you mean item\?"),
        ({"where": "clik = 1"}, r"^dataset.where: no such column clik"),
        ({"row_weight": "prize"}, r"^dataset.row_weight: no such column prize in log.csv. Did you mean price\?"),
        ({"tasks": {"c": {"label": "click = = 1"}}}, r"^dataset.tasks.c.label should be a column or an SQL expression"),
        ({"tasks": {"c": {"label": "1 = 1"}}}, r"^dataset.tasks.c.label should read at least one column"),
        ({"tasks": {"c": {"label": "click > 'a'"}}}, r"^dataset.tasks.c.label should fit the columns' types"),
        (
            {"tasks": {"c": {"label": "item"}}, "features": {"user": {}}},
            r"^dataset.tasks.c.label should be a number or true/false. .* String",
        ),
        ({"tasks": {"rating": {}}}, r"^dataset.tasks.rating.label should be 0 or 1 .* Received: [\d.]+, in row \d+"),
        ({"tasks": {"c": {"label": "click + 1"}}}, r"^dataset.tasks.c.label should be 0 or 1 .* Received: 2"),
        ({"where": "item"}, r"^dataset.where should be a condition"),
        (
            {"tasks": {"c": {"label": "price > -999"}}},
            r"^dataset.tasks.c: every label in the train split is 1, so its AUC",
        ),
        (
            {"tasks": {"c": {"label": "click = 1 AND day < 20220508"}}},
            r"^dataset.tasks.c: every label in the valid split is 0, so its AUC is undefined. Widen dataset.split",
        ),
        ({"tasks": {"click": {"where": "price > 999"}}}, r"^dataset.tasks.click: no row of the train split is in its"),
        ({"features": {"item": {"kind": "numeric"}}}, r"should be a finite number in every row of column item. .*'i\d"),
        (
            {"features": {"day": {}}},
            r"^dataset.features.day: no value in the 1\d\d rows of the valid split was",
        ),
        (
            {"features": {"price": {"min_count": 9}}},
            r"^dataset.features.price should have a value that at least min_count=9",
        ),
        (
            {"features": {"click": {}}},
            r"^dataset.features.click should not be a label: task click is read from column click",
        ),
        (
            {"features": {"x": {"column": "buy"}}, "tasks": {"t": {"label": "click = 1 AND buy = 1"}}},
            r"^dataset.features.x should not be a label: task t is read from column buy. .*, dataset.drop=\[x\]",
        ),
        ({"row_weight": "price - 10"}, r"^dataset.row_weight should be a number of at least 0 in every training row"),
        ({"features": {}}, r"^dataset.features should name at least one feature"),
        ({"tasks": {}}, r"^dataset.tasks should name at least one task"),
        ({"drop": ["usr"]}, r"^dataset.drop: no feature or task usr. Did you mean user\?"),
        ({"max_rows": 0}, r"^dataset.max_rows should be a positive whole number or null. Received: 0"),
        (
            {"downsample": {"task": "clik", "rate": 0.1}},
            r"^dataset.downsample.task should name a binary task whose labels are not late. .*click\?",
        ),
        ({"downsample": {"task": "click", "rate": 0}}, r"^dataset.downsample.rate should be above 0 and at most 1"),
        ({"downsample": {"task": "click", "rat": 0}}, r"^dataset.downsample.rat: no such key. Did you mean rate\?"),
        ({"path": None}, r"^dataset.path, or dataset.train and dataset.valid, should name"),
        ({"train": "x.csv"}, r"^dataset.path and dataset.train should not both be given"),
        ({"dtypes": {"user": "txet"}}, r"^dataset.dtypes.user should be one of .* Did you mean text\?"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(tmp_path, message, **changes)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(tmp_path: Path, value: float | None) -> None:
    table = log_table().with_columns(price=pl.when(pl.int_range(400) == 9).then(value).otherwise("price"))
    what = "Received: inf" if value == float("inf") else "Received: a null or NaN. .*dataset.features.price.fill=0"
    refused(tmp_path, what, table, features={"price": {"kind": "numeric"}})


def test_a_number_that_is_none_in_validation_alone_is_refused(tmp_path: Path) -> None:
    table = log_table().with_columns(price=pl.when(pl.col("day") == 20220509).then(None).otherwise("price"))
    refused(tmp_path, "Received: a null or NaN", table, features={"price": {"kind": "numeric"}})


def test_fill_does_not_hide_text_in_a_numeric_column(tmp_path: Path) -> None:
    prices = ["n/a" if row == 200 else str(row) for row in range(400)]
    table = log_table().with_columns(price=pl.Series(prices))
    refused(tmp_path, "Received: 'n/a'", table, features={"price": {"kind": "numeric", "fill": 0}})


def test_a_null_label_is_refused_where_it_counts(tmp_path: Path) -> None:
    table = log_table().with_columns(click=pl.when(pl.int_range(400) == 5).then(None).otherwise("click"))
    refused(tmp_path, r"dataset.tasks.click.label should be 0 or 1 .* Received: a null, in row 5", table)


def test_a_missing_file_or_folder_names_its_neighbour(tmp_path: Path) -> None:
    refused(tmp_path, r"dataset.path: no such file: .*/lgo.csv. Did you mean log.csv\?", path=str(tmp_path / "lgo.csv"))
    refused(tmp_path, r"dataset.path: no such file: .*There is no folder .*/no", path=str(tmp_path / "no" / "log.csv"))
    refused(tmp_path, r"Get it from https://example.org", path="nowhere.csv", homepage="https://example.org")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, r"should hold csv, tsv or parquet files. It holds none", path=str(tmp_path / "empty"))
    (tmp_path / "log.xlsx").write_bytes(b"x")
    refused(tmp_path, r"should name files of kind .csv", path=str(tmp_path / "log.xlsx"))


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.csv.gz"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    table, path = log_table(), tmp_path / name
    text = table.write_csv().encode()
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text))
    elif name.endswith(".csv"):
        path.write_bytes(text)
    else:
        table.write_parquet(path)
    whole = path.read_bytes()
    contents = {"empty": b"", "cut": whole[: len(whole) // 2 - 3], "noise": bytes(range(256)) * 40}
    path.write_bytes(contents[damage])
    with pytest.raises(InputError) as error:
        prepare(tabular(tmp_path, path=str(path)), tmp_path / "cache")
    assert "\n" not in str(error.value) and "log." in str(error.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "log.csv should hold rows. It holds a header alone", log_table().head(0))
    log_table().head(0).write_parquet(tmp_path / "log.parquet")
    refused(tmp_path, "The training split should have rows", path=str(tmp_path / "log.parquet"))


def test_a_value_that_the_first_rows_did_not_announce_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funrec.data.datasets.files.ROWS_TO_INFER_FROM", 50)
    table = log_table().with_columns(
        user=pl.Series([str(row % 20) if row != 300 else "anonymous" for row in range(400)])
    )
    refused(tmp_path, r"column user should hold whole numbers.*'anonymous'.*dataset.dtypes=\{user: text\}", table)
    assert prepare_table(tmp_path, table, dtypes={"user": "text"}).vocabularies["user"].key == "String"


def test_leaky_columns_are_refused_with_the_reason_unless_allowed(tmp_path: Path) -> None:
    leaky = {"price": "it is set after the click"}
    refused(
        tmp_path, r"Column price is not: it is set after the click.*allow_leaky", features={"price": {}}, leaky=leaky
    )
    features = {"price": {"kind": "numeric"}}
    assert prepare_table(tmp_path, features=features, leaky=leaky, allow_leaky=True).layout.numeric_features == (
        "price",
    )
    with pytest.raises(InputError, match="it is set after the click"):  # although the cache holds such arrays by now
        prepare_table(tmp_path, features=features, leaky=leaky)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"The cache .*/file/cache should be a folder that can be written to"):
        prepare(tabular(tmp_path, log_table()), tmp_path / "file" / "cache")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [4_000, 400_000], ids=["while staging", "while encoding"])
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands for the full disk: the write itself fails, for real."""
    log_table(20_000).select("click", "day", "user", "item").write_csv(tmp_path / "log.csv")
    code = f"""
import resource
from pathlib import Path
from tables import tabular
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError
folder = Path({str(tmp_path)!r})
features = {{f"u{{n}}": {{"column": "user"}} for n in range(12)}}
dataset = tabular(folder, features={{**features}} if {limit} > 9999 else {{"user": {{}}}}, group="user")
if {limit} > 9999:
    import funrec.data.preparation.writing as writing
    start = writing.SplitWriter.__init__
    def limited(self, *arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        start(self, *arguments)
    writing.SplitWriter.__init__ = limited
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    prepare(dataset, folder / "cache")
except InputError as error:
    print(error)
"""
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.count("\n") == 1 and "full" in done.stdout, done.stdout + done.stderr
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


def test_preparing_says_how_fast_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="funrec"):
        prepare_table(tmp_path)
    assert "prepared 400 rows" in caplog.text
