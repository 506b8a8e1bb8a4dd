"""Download a public data set: resumed where it broke off, checked, and unpacked whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from funrec.config.catalogue import read_choice
from funrec.data.datasets.files import DISK_FULL
from funrec.utils.errors import InputError
from funrec.utils.files import CHUNK, one_line, read_json, write_json
from funrec.utils.locks import locked
from funrec.utils.specs import PositiveInt, Text, check

#: Of downloads whose checksum is not published: by URL, the one of the first download.
RECORDED = "checksums.json"
SECONDS, TRIES = 30, 5
#: What a connection ends with when it breaks off.
BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

#: Told of the bytes that are there, and of all that there will be (None if the server does not say).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Download:
    """An archive to download, a file of `conf/download/`.

    Attributes:
        url: Where it is: http or https, a .zip, .tar.gz or .tgz.
        licence: What the data may be used for.
        bytes: Its size, where that is known.
        sha256: Its checksum, where that is published.
    """

    url: Text
    licence: Text
    bytes: PositiveInt | None = None
    sha256: Text | None = None


def find_download(name: str) -> Download:
    """Return what `conf/download/<name>.yaml` says."""
    found = Download(**check(Download, read_choice("download", name, "funrec data fetch"), f"download.{name}"))
    if not found.url.startswith(("https://", "http://")):
        raise InputError(f"download.{name}.url should begin with https:// or http://. Received: {found.url}.")
    return found


def fetch(download: Download, folder: Path, progress: Progress) -> str:
    """Download and unpack into `folder`, and return the archive's SHA-256.

    What was downloaded stays beside the folder (`.<folder>.part`) until it is whole, and the next call goes on from
    there; `folder` appears once all of it is unpacked.

    Raises:
        InputError: If the server cannot be reached, breaks off, or sends other content; if there is no room; or if
            the archive is none.
    """
    place = folder.parent
    part, archive = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "archive"))
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locked(part.with_suffix(".lock")):
            if not archive.exists():
                _download(download, part, progress)
                part.rename(archive)
            record = place / RECORDED
            known = read_json(record) if record.exists() else {}
            digest = _check(download.url, archive, download.sha256 or known.get(download.url))
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=place) as work:
                content = Path(work, "all")
                _unpack(download.url, archive, content)
                inside = list(content.iterdir())
                is_folder = len(inside) == 1 and inside[0].is_dir()
                (inside[0] if is_folder else content).rename(folder)
            if download.sha256 is None:
                write_json(record, {**known, download.url: digest})
            archive.unlink()
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise InputError(
            f"{place} should have room for {download.url}. The disk is full; free some space and run this again to go "
            "on."
        ) from error
    return digest


def _download(download: Download, part: Path, progress: Progress) -> None:
    """Add to `part` until it is whole; a connection that breaks off is taken up again a few times."""
    stamp = part.with_suffix(".etag")
    for left in reversed(range(TRIES)):
        start = part.stat().st_size if part.exists() else 0
        try:
            if _receive(download, part, stamp, start, progress):
                stamp.unlink(missing_ok=True)
                return
            problem = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416 and start:  # there is nothing after what is here
                return
            raise InputError(f"{download.url} cannot be downloaded: {error.code} {error.reason}.") from error
        except BROKEN as error:
            problem = one_line(getattr(error, "reason", error))
        grown = part.exists() and part.stat().st_size > start
        if not (left and grown):
            break
    kept = f" {part.stat().st_size:,} bytes are kept: run this again to go on." if part.exists() else ""
    raise InputError(f"{download.url} cannot be downloaded: {problem}.{kept}")


def _receive(download: Download, part: Path, stamp: Path, start: int, progress: Progress) -> bool:
    """Take what a server sends from `start` on, and return whether that is all."""
    request = urllib.request.Request(download.url, headers={"User-Agent": "funrec"})
    if start and stamp.exists():
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", stamp.read_text())  # another file of that name is sent from its beginning
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        is_rest, length = answer.status == 206, answer.headers.get("Content-Length")
        needed = int(length) if length else download.bytes
        total = needed if needed is None or not is_rest else start + needed
        if needed is not None and needed > (free := shutil.disk_usage(part.parent).free):
            raise InputError(f"{part.parent} should have {needed:,} bytes of room for {download.url}. It has {free:,}.")
        if tag := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
            stamp.write_text(tag)
        with part.open("ab" if is_rest else "wb") as file:
            while block := answer.read(CHUNK >> 4):
                file.write(block)
                progress(file.tell(), total)
            return total is None or file.tell() >= total


def _check(url: str, archive: Path, expected: str | None) -> str:
    """Return the checksum of an archive; one with another than expected is removed."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected not in (None, digest):
        archive.unlink()
        raise InputError(
            f"{url} should have the SHA-256 {expected}. Received: {digest}. What came was removed: try "
            "again, or check who changed it."
        )
    return digest


def _unpack(url: str, archive: Path, folder: Path) -> None:
    """Unpack an archive whose members all stay inside the folder."""
    try:
        if url.endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                _check_room(sum(member.file_size for member in zipped.infolist()), folder.parent)
                zipped.extractall(folder)
        else:
            with tarfile.open(archive) as tarred:
                _check_room(sum(member.size for member in tarred.getmembers()), folder.parent)
                tarred.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise InputError(
            f"{url} should be an archive. It is none: {one_line(error)}. What came was removed."
        ) from error


def _check_room(needed: int, folder: Path) -> None:
    if needed > (free := shutil.disk_usage(folder).free):
        raise InputError(f"{folder.parent} should have {needed:,} bytes of room to unpack. It has {free:,}.")
