"""Files behind a URI: what identifies them, and copies of them in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from funrec.data.datasets.files import KINDS, file_kind
from funrec.data.preparation.cache import cache_folder
from funrec.utils.errors import InputError, causes
from funrec.utils.files import one_line
from funrec.utils.locks import locked

SCHEMES = ("s3", "gs", "hf", "http", "https")
#: What file systems say about a file's content, besides its size.
_STAMPS = ("ETag", "etag", "Last-Modified", "LastModified", "Content-MD5", "md5Hash", "generation", "mtime")
_STAMPS_OF_HUB = ("blob_id", "lfs", "xet_hash", "last_commit")
_SECRETS = ("key", "secret", "token", "password", "credential")
SECONDS_TO_CONNECT, SECONDS_TO_READ = 10, 60


def is_remote(path: str) -> bool:
    """Return whether a path is a URI rather than a file of this machine."""
    return "://" in path


@dataclass
class Remote:
    """The files that a URI, or a glob of one, names.

    Credentials come from the environment, as the file system's own tools take them: a run's record holds its
    configuration, and nothing secret belongs there.

    Args:
        key: The config key, for messages.
        uri: The URI. A last part with `*` is a glob; one without a suffix is a folder.
        options: For fsspec's file system, such as `{anon: true}`.
    """

    key: str
    uri: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        scheme = self.uri.partition("://")[0]
        if scheme not in SCHEMES:
            raise InputError(f"{self.key} should be a path or a URI of {', '.join(SCHEMES)}. Received: {self.uri}.")
        if urlsplit(self.uri).password:
            raise InputError(
                f"{self.key} should hold no password, since the record holds it. Set credentials in the environment."
            )
        for option in self.options:
            if any(secret in option.lower() for secret in _SECRETS):
                raise InputError(
                    f"dataset.storage_options.{option} should stay out of the configuration, which the record holds. "
                    "Set credentials in the environment."
                )

    def identity(self) -> list[Any]:
        """Return the URI, size and version (ETag, hash or time of change) of every file."""
        return [[uri, size, *stamps] for uri, size, stamps in self._look()]

    def fetch(self) -> list[Path]:
        """Return copies of the files in the cache; what is there with the same identity is not fetched again."""
        return [self._fetch(*found) for found in self._look()]

    def _fetch(self, uri: str, size: int | None, stamps: list[str]) -> Path:
        name = PurePosixPath(urlsplit(uri).path).name
        digest = hashlib.sha256(json.dumps([uri, size, stamps]).encode()).hexdigest()[:32]
        folder = cache_folder() / ".downloads" / digest
        copy = folder / name
        if copy.exists():
            return copy
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=folder) as work:
            if copy.exists():
                return copy
            partial = Path(work, name)
            with self._reaching(uri):
                system = self._system()
                path = system._strip_protocol(uri)
                system.get_file(path, str(partial))
                after = _describe(system, path, system.info(path))
            if after != (uri, size, stamps) or (size is not None and partial.stat().st_size != size):
                raise InputError(f"{uri} changed while it was read. Run again once it is complete.")
            shutil.move(partial, copy)
        return copy

    def _look(self) -> list[tuple[str, int | None, list[str]]]:
        """Return every file's URI, size and stamps, sorted by URI, as they are now."""
        with self._reaching(self.uri):
            system = self._system()
            path = system._strip_protocol(self.uri)
            if "*" in self.uri:
                names = system.glob(path)
            elif file_kind(Path(urlsplit(self.uri).path)) is None and system.isdir(path):
                names = system.ls(path, detail=False)
            else:
                names = [path]
            found = [(name, system.info(name)) for name in sorted(names)]
            files = [(name, info) for name, info in found if info.get("type") != "directory"]
            readable = [(name, info) for name, info in files if file_kind(Path(urlsplit(name).path)) is not None]
            if not readable:
                received = files[0][0] if files else "no such file"
                raise InputError(f"{self.key}: {self.uri} should name files of kind {KINDS}. Received: {received}.")
            return [_describe(system, name, info) for name, info in readable]

    def _system(self) -> Any:
        import fsspec

        scheme = self.uri.partition("://")[0]
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if scheme == "s3":
            waits = {"connect_timeout": SECONDS_TO_CONNECT, "read_timeout": SECONDS_TO_READ}
            options["config_kwargs"] = {**waits, "retries": {"max_attempts": 2}}
        if scheme.startswith("http"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, connect=SECONDS_TO_CONNECT, sock_read=SECONDS_TO_READ)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(scheme, **{**options, **self.options})

    @contextmanager
    def _reaching(self, uri: str) -> Iterator[None]:
        """Put what a file system says about a URI in one line."""
        try:
            yield
        except InputError:
            raise
        except ImportError as error:
            raise InputError(
                f'{self.key}: {uri} needs a package ({one_line(error)}). Install it: pip install "funrec-lab[cloud]".'
            ) from error
        except Exception as error:  # each file system has kinds of its own, and some hide them behind "not found"
            chain = list(causes(error))
            if any(_is_about_credentials(cause) for cause in chain):
                raise InputError(
                    f"{self.key}: {uri} should be readable with the credentials in the environment: "
                    f"{one_line(error)}. Set them, or dataset.storage_options={{anon: true}} for a public bucket."
                ) from error
            if _is_missing(chain):
                raise InputError(f"{self.key}: no such file: {uri}.") from error
            raise InputError(f"{self.key}: {uri} cannot be reached: {one_line(chain[-1])}.") from error


def _is_about_credentials(error: BaseException) -> bool:
    is_refused = isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403)
    return is_refused or "Credential" in type(error).__name__


def _is_missing(chain: Sequence[BaseException]) -> bool:
    """Whether a file is not there, rather than its server: some file systems call either "not found"."""
    if all(isinstance(error, FileNotFoundError) for error in chain):
        return True
    return getattr(chain[-1], "status", None) == 404 or any(word in str(chain[-1]) for word in ("NoSuch", "Not Found"))


def _describe(system: Any, name: str, info: Mapping[str, Any]) -> tuple[str, int | None, list[str]]:
    """Return a file's URI, size and stamps; where its server knows none, the hash of its content."""
    stamps = [str(info[stamp]) for stamp in (*_STAMPS, *_STAMPS_OF_HUB) if info.get(stamp) is not None]
    if not stamps:
        content = hashlib.sha256()
        with system.open(name) as file:
            while block := file.read(1 << 20):
                content.update(block)
        stamps = [content.hexdigest()]
    return system.unstrip_protocol(name), info.get("size"), stamps
