"""Downloads, from a server on this machine that breaks off, changes its file, or sends something else."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import Command

from funrec.data.fetch import Download, fetch, find_download
from funrec.utils.errors import InputError

CONF = Path(__file__).parents[2] / "conf" / "download"


class Server(ThreadingHTTPServer):
    """Serves one file in full or from a byte on; `breaks` says after how many bytes each answer breaks off."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.has_tags, self.breaks, self.asked = content, '"1"', True, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/films.zip"

    def handle_error(self, *arguments: object) -> None:
        """A client that breaks off is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.headers.get("If-Range") == server.tag else 0
        server.asked.append(start)
        if not self.path.startswith("/films."):
            return self.send_error(404)
        if start and start >= len(server.content):
            return self.send_error(416)
        content = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        if server.has_tags:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(content[: server.breaks.pop(0)] if server.breaks else content)
        return None

    def log_message(self, *arguments: object) -> None:
        """Quietly."""


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"ml/{name}.csv", content)
    return stream.getvalue()


NOISE = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(zipped(ratings=NOISE, movies=b"movieId\n1\n"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def download(server: Server, folder: Path, **known: object) -> str:
    return fetch(Download(url=server.url, licence="free", **known), folder, lambda done, total: None)


def left(folder: Path) -> set[str]:
    """What is in a folder besides locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.is_dir() else set()


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.breaks = [1_000_000, 500_000]
    digest = download(server, tmp_path / "data" / "ml")
    assert server.asked == [0, 1_000_000, 1_500_000]
    assert digest == hashlib.sha256(server.content).hexdigest()
    assert (tmp_path / "data" / "ml" / "ratings.csv").read_bytes() == NOISE
    assert left(tmp_path / "data") == {"ml", "checksums.json"}


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.breaks = [1_000_000, 0]
    with pytest.raises(
        InputError, match=r"cannot be downloaded: the connection broke off. 1,000,000 bytes are kept: run"
    ):
        download(server, tmp_path / "ml")
    assert left(tmp_path) == {".ml.part", ".ml.etag"}
    download(server, tmp_path / "ml")
    assert server.asked == [0, 1_000_000, 1_000_000]
    assert (tmp_path / "ml" / "ratings.csv").read_bytes() == NOISE


def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(server: Server, tmp_path: Path) -> None:
    server.breaks = [1_000_000, 0]
    with pytest.raises(InputError, match="are kept"):
        download(server, tmp_path / "ml")
    server.content, server.tag = zipped(ratings=NOISE[::-1]), '"2"'
    download(server, tmp_path / "ml")
    assert (tmp_path / "ml" / "ratings.csv").read_bytes() == NOISE[::-1]


def test_a_server_that_cannot_resume_is_asked_for_all(server: Server, tmp_path: Path) -> None:
    server.has_tags, server.breaks = False, [1_000_000]
    download(server, tmp_path / "ml")
    assert server.asked == [0, 0]
    assert (tmp_path / "ml" / "ratings.csv").read_bytes() == NOISE


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should have the SHA-256 abc. Received: [0-9a-f]{64}. What came was removed"):
        download(server, tmp_path / "ml", sha256="abc")
    assert left(tmp_path) == set()


def test_a_checksum_that_is_not_published_is_that_of_the_first_download(server: Server, tmp_path: Path) -> None:
    download(server, tmp_path / "ml")
    shutil.rmtree(tmp_path / "ml")
    server.content = zipped(ratings=b"other")
    with pytest.raises(InputError, match="should have the SHA-256"):
        download(server, tmp_path / "ml")
    assert left(tmp_path) == {"checksums.json"}


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_what_is_no_archive_is_said_and_removed(server: Server, tmp_path: Path, suffix: str) -> None:
    server.content = b"<html>Please accept the licence.</html>"
    server.url = server.url.replace("zip", suffix)
    with pytest.raises(InputError, match=r"should be an archive. It is none: .*What came was removed"):
        download(server, tmp_path / "ml")
    assert left(tmp_path) == set()


def test_an_archive_that_would_write_elsewhere_writes_nothing(server: Server, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("../outside.csv")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"a\n1"))
    server.content, server.url = stream.getvalue(), server.url.replace("zip", "tar.gz")
    with pytest.raises(InputError, match=r"should be an archive. It is none: .*outside"):
        download(server, tmp_path / "data" / "ml")
    assert not list(tmp_path.rglob("outside.csv"))


def test_no_room_is_said_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, 1000))
    with pytest.raises(InputError, match=r"should have 3,\d{3},\d{3} bytes of room for http.* It has 1,000\."):
        download(server, tmp_path / "ml")
    assert left(tmp_path) == set()


def test_a_server_that_is_away_or_has_no_such_file_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.zip cannot be downloaded: 404 Not Found\."):
        fetch(Download(server.url.replace("films", "nothing"), "free"), tmp_path / "a", lambda done, total: None)
    with pytest.raises(InputError, match=r"cannot be downloaded: .*refused.*\."):
        fetch(Download("http://127.0.0.1:9/films.zip", "free"), tmp_path / "a", lambda done, total: None)


def test_the_command_says_licence_size_checksum_and_where_the_data_is(
    server: Server, funrec: Command, workdir: Path
) -> None:
    (workdir / "mine" / "download").mkdir(parents=True)
    entry = {"url": server.url, "licence": "research", "bytes": len(server.content)}
    (workdir / "mine" / "download" / "films.yaml").write_text(yaml.safe_dump(entry))
    done = funrec("data", "fetch", "films", "--config-dir", "mine")
    assert (done.code, done.out) == (0, "dataset.root=data/films\n")
    assert f"{len(server.content):,} bytes. Licence: research." in done.err
    assert "none is published; recorded in data/checksums.json" in done.err
    again = funrec("data", "fetch", "films", "--config-dir", "mine")
    assert (again.code, again.err) == (
        2,
        "funrec: data/films is there already. Remove it, or name another folder with -o.\n",
    )
    assert funrec("data", "fetch", "film").err.startswith("funrec: funrec data fetch should be one of census, ")


@pytest.mark.parametrize("name", sorted(file.stem for file in CONF.glob("*.yaml")))
def test_every_download_says_where_it_is_from_and_its_licence(name: str) -> None:
    found = find_download(name)
    assert found.url.endswith((".zip", ".tar.gz"))
    assert len(found.licence) > 5
    assert found.sha256 is None or re.fullmatch("[0-9a-f]{64}", found.sha256)
