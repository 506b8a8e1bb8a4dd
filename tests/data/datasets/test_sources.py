"""Tables behind a URI, in memory, and of a kind of one's own are read as files are."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.arrays import PreparedData
from funrec.data.datasets.sources import Source, handed_over, to_polars
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        if self.path.startswith("/secret"):
            return self.send_error(403)
        return super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified" or not self.path.startswith("/plain"):
            super().send_header(keyword, value)

    do_HEAD = do_GET


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server that serves `tmp_path/site`."""
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("FUNREC_CACHE", str(tmp_path / "downloads"))
    (tmp_path / "site").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def check_same(found: PreparedData, expected: PreparedData) -> None:
    assert found.row_fingerprints == expected.row_fingerprints
    for name, split in expected.splits.items():
        assert (found.splits[name].ids == split.ids).all()


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as error:
        prepare(tabular(folder, **changes), folder / "cache")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.csv.gz"])
def test_a_table_on_a_web_server_is_read_and_fetched_once(tmp_path: Path, site: str, name: str) -> None:
    table = log_table()
    expected = prepare_table(tmp_path, table)
    file = tmp_path / "site" / name
    table.write_parquet(file) if name.endswith("parquet") else table.write_csv(
        file, compression="gzip" if name.endswith("gz") else "uncompressed"
    )
    check_same(prepare(tabular(tmp_path, path=f"{site}/{name}"), tmp_path / "cache"), expected)
    again = prepare(tabular(tmp_path, path=f"{site}/{name}"), tmp_path / "cache")
    assert again.statistics["sources"] == [f"{site}/{name}"]
    assert len(list((tmp_path / "downloads" / ".downloads").glob("*/log*"))) == 1


def test_a_table_that_changed_on_the_server_is_prepared_anew(tmp_path: Path, site: str) -> None:
    file = tmp_path / "site" / "log.csv"
    for rows in (400, 410):
        log_table(rows).write_csv(file)
        found = prepare(tabular(tmp_path, path=f"{site}/log.csv"), tmp_path / "cache")
        assert found.statistics["rows"] == rows


def test_a_server_that_knows_no_versions_is_asked_for_the_content(tmp_path: Path, site: str) -> None:
    table = log_table()
    found = []
    for part in (table, table.with_columns(click=1 - pl.col("click"))):  # of the same size
        part.select("user", "item", "day", "click").write_csv(tmp_path / "site" / "plain.csv")
        found.append(prepare(tabular(tmp_path, path=f"{site}/plain.csv"), tmp_path / "cache"))
    assert (found[0].splits["train"].labels[:] == 1 - found[1].splits["train"].labels[:]).all()


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tabular(tmp_path, log_table())
    scan = type(dataset).scan

    def growing(self: Any, *arguments: Any) -> Any:
        frames = scan(self, *arguments)
        with (tmp_path / "log.csv").open("a") as file:
            file.write((tmp_path / "log.csv").read_text().splitlines()[-1] + "\n")
        return frames

    monkeypatch.setattr(type(dataset), "scan", growing)
    with pytest.raises(InputError, match=r"^log.csv changed while it was read"):
        prepare(dataset, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def test_what_cannot_be_reached_is_one_line(tmp_path: Path, site: str) -> None:
    (tmp_path / "site" / "log.txt").write_text("x")
    cases = {
        f"{site}/none.csv": f"dataset.path: no such file: {site}/none.csv.",
        f"{site}/secret.csv": "should be readable with the credentials in the environment",
        f"{site}/log.txt": "should name files of kind .csv",
        "http://127.0.0.1:9/log.csv": "http://127.0.0.1:9/log.csv cannot be reached: ",
        "ftp://host/log.csv": "dataset.path should be a path or a URI of s3, gs, hf, http, https. Received: ftp://host",
    }
    for uri, message in cases.items():
        assert message in refusal(tmp_path, path=uri)
    options = {"secret": "swordfish"}
    found = refusal(tmp_path, path="s3://bucket/log.csv", storage_options=options)
    assert found.startswith("dataset.storage_options.secret should stay out of the configuration")
    assert "swordfish" not in found
    assert "should hold no password" in refusal(tmp_path, path="https://me:swordfish@host/log.csv")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server that runs here, with credentials for it in the environment."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import boto3

        boto3.client("s3").create_bucket(Bucket="logs")
        yield "s3://logs"
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["log.parquet", "parts/*.csv", "parts"])
def test_a_table_in_a_bucket_is_read(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    import boto3

    monkeypatch.setenv("FUNREC_CACHE", str(tmp_path / "downloads"))
    table = log_table()
    expected = prepare_table(tmp_path, table)
    files = {"log.parquet": table, "parts/1.csv": table.head(150), "parts/2.csv": table.slice(150)}
    for name, part in files.items():
        local = tmp_path / Path(name).name
        part.write_parquet(local) if local.suffix == ".parquet" else part.write_csv(local)
        boto3.client("s3").upload_file(str(local), "logs", name)
    check_same(prepare(tabular(tmp_path, path=f"{bucket}/{path}"), tmp_path / "cache"), expected)
    assert f"no such file: {bucket}/none.csv" in refusal(tmp_path, path=f"{bucket}/none.csv")
    assert "no such file: s3://none/log.csv" in refusal(tmp_path, path="s3://none/log.csv")


@pytest.mark.slow
def test_a_bucket_without_credentials_says_so(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert "with the credentials in the environment" in refusal(tmp_path, path=f"{bucket}/log.csv")


def test_frames_of_every_library_give_the_same_rows(tmp_path: Path) -> None:
    table = log_table()
    expected = prepare_table(tmp_path, table)
    frames: list[Any] = [table, table.lazy(), pd.DataFrame(table.to_dict(as_series=False))]
    if (datasets := pytest.importorskip("datasets")) is not None:
        frames.append(datasets.Dataset.from_dict(table.to_dict(as_series=False)))
    for frame in frames:
        with handed_over(frame) as (override,):
            path = override.removeprefix("dataset.path=").strip("'")
            check_same(prepare(tabular(tmp_path, path=path), tmp_path / "cache"), expected)
        assert "hand it over again" in refusal(tmp_path, path=path)


def test_frames_by_split_are_not_divided(tmp_path: Path) -> None:
    table = log_table()
    with handed_over({"train": table.head(300), "validation": table.tail(100)}) as overrides:
        paths = dict(override.removeprefix("dataset.").replace("'", "").split("=") for override in overrides)
        found = prepare(tabular(tmp_path, path=None, **paths), tmp_path / "cache")
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 300, "valid": 100}


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data should be a table .*Received: int"):
        to_polars(7)
    twice = pd.DataFrame([[1, 2]], columns=["user", "user"])
    with pytest.raises(InputError, match=r"^data: column user stands twice"):
        to_polars(twice)
    with (
        pytest.raises(InputError, match=r"frames by train, valid, test and calibrate. Received: tarin"),
        handed_over({"tarin": log_table()}),
    ):
        pass
    with handed_over(log_table().drop("user")) as (override,):
        path = override.removeprefix("dataset.path=").strip("'")
        assert refusal(tmp_path, path=path).startswith("dataset.features.user: no such column in the frame.")


class SqliteTable(Source):
    """A table of a SQLite database: a source of one's own."""

    def __init__(self, database: str, table: str) -> None:
        self.database, self.table = database, table

    def _query(self, query: str) -> pl.DataFrame:
        with sqlite3.connect(self.database) as connection:
            return pl.read_database(query, connection)

    def identity(self) -> list[Any]:
        return [self.database, self.table, self._query(f"SELECT count(*) FROM {self.table}").item()]

    def scan(self) -> pl.LazyFrame:
        return self._query(f"SELECT * FROM {self.table} ORDER BY rowid").lazy()


def test_a_source_of_ones_own_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = log_table()
    expected = prepare_table(tmp_path, table)
    with sqlite3.connect(tmp_path / "log.db") as connection:
        pd.DataFrame(table.to_dict(as_series=False)).to_sql("log", connection, index=False)
    monkeypatch.setenv("FUNREC_ALLOW", "test_sources")
    monkeypatch.setitem(__import__("sys").modules, "test_sources", __import__("sys").modules[__name__])
    source = {"_target_": "test_sources.SqliteTable", "database": str(tmp_path / "log.db"), "table": "log"}
    check_same(prepare(tabular(tmp_path, path=None, source=source), tmp_path / "cache"), expected)
    with pytest.raises(InputError, match="not both be given"):
        tabular(tmp_path, source=source)
    assert "dataset.source.tabel: no such key. Did you mean table?" in refusal(
        tmp_path, path=None, source={**source, "tabel": 1}
    )


def test_a_missing_value_of_a_pandas_extension_type_is_a_null() -> None:
    frame = pd.DataFrame({"click": pd.array([True, None], "boolean"), "id": pd.array([None, 3], "Int64")})
    assert to_polars(frame).to_dict(as_series=False) == {"click": [True, None], "id": [None, 3]}


def test_a_column_of_python_objects_is_refused_in_one_line() -> None:
    with (
        pytest.raises(InputError, match="column odd should hold numbers, text, dates or lists"),
        handed_over(pd.DataFrame({"odd": [object()]})),
    ):
        pass
