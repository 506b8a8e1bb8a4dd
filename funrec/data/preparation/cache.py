"""Prepared data on disk: one folder per fingerprint, complete or absent, and checked before it is trusted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funrec.data.datasets.files import DISK_FULL
from funrec.utils.errors import InputError
from funrec.utils.files import one_line
from funrec.utils.locks import locked

if TYPE_CHECKING:
    from funrec.data.datasets.base import Dataset

log = logging.getLogger(__name__)

#: Raise it whenever the same configuration would yield other files.
DATA_FORMAT = 1
MANIFEST, VERIFIED = "manifest.json", "verified.json"
#: What leaves the arrays as they are.
_FEATURE_KEYS_OF_THE_MODEL = {"embedding_dim", "pooling", "known_before", "target", "search", "search_length"}
_TASK_KEYS_OF_THE_MODEL = {"weight", "loss"}
#: Keys of tasks, splits and histories that came later: where they are null or empty, fingerprints are as they were.
_LATER_KEYS = {
    *("length", "most_lengths", "time", "until", "calibrate", "calibrate_from", "events", "ago", "logs"),
    "observed_after",
}
#: Likewise of datasets.
_LATER_SETTINGS = {"drift", "tables", "columns"}


def fingerprint(dataset: Dataset) -> str:
    """Hash all that determines a dataset's arrays: its data configuration and its raw files' path, size and time.

    What concerns the model alone (embedding widths, pooling, task weights) stays out.
    """
    kind = type(dataset)
    state = {
        "format": DATA_FORMAT,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "settings": {k: v for k, v in dataset.settings().items() if v or k not in _LATER_SETTINGS},
        "features": [_without(feature.to_plain(), _FEATURE_KEYS_OF_THE_MODEL) for feature in dataset.features],
        "tasks": [_without(asdict(task), _TASK_KEYS_OF_THE_MODEL) for task in dataset.tasks],
        "split": _without(asdict(dataset.split)),
        "downsample": None if dataset.downsample is None else asdict(dataset.downsample),
        "oracle": dict(dataset.oracle),
        **{key: getattr(dataset, key) for key in ("group", "item", "time", "where", "row_weight", "max_rows")},
        "sources": [part for source in dataset.sources() for part in source.identity()],
    }
    # What came later, where it has no effect, leaves fingerprints as they were.
    if dataset.max_train_rows is not None:
        state["max_train_rows"] = dataset.max_train_rows
    if dataset.split.by == "group":
        state["group_split"] = "exact"
    if dataset.domain is not None:
        state["domain"] = dataset.domain
    if dataset.histories:
        specs = [_without(asdict(spec)) for spec in dataset.histories]
        state["histories"] = {"specs": specs, **_without(asdict(dataset.history))}
    return hashlib.sha256(json.dumps(state, default=str).encode()).hexdigest()[:32]


def log_fingerprint(dataset: Dataset) -> str:
    """Hash all that decides which rows are in which split: two datasets of one hash have the same rows in each.

    Sampling of training rows stays out: it only leaves some of them out.
    """
    state = {
        "class": type(dataset).__qualname__,
        "settings": {k: v for k, v in dataset.settings().items() if v or k not in _LATER_SETTINGS},
        "split": asdict(dataset.split),
        **{key: getattr(dataset, key) for key in ("group", "time", "where", "max_rows")},
        "sources": [part for source in dataset.sources() for part in source.identity()],
    }
    return hashlib.sha256(json.dumps(state, default=str).encode()).hexdigest()[:32]


def _without(part: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, Any]:
    return {k: value for k, value in part.items() if k not in keys and not (not value and k in _LATER_KEYS)}


def cache_folder() -> Path:
    """Return where prepared data is kept: `FUNREC_CACHE`, else `outputs/.cache`."""
    return Path(os.environ.get("FUNREC_CACHE") or Path("outputs", ".cache"))


def obtain(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return the cache entry `name`, built first if there is none or if it is damaged.

    Two processes that want the same entry at the same moment build it once: the second waits. An entry is built in a
    folder of its own and then renamed, so a killed process leaves no half of one.
    """
    entry = cache / name
    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
    if entry.is_dir() and not _damage_on_opening(entry):
        return entry
    with _writing(cache), locked(cache / f"{name}.lock"):
        if entry.is_dir():
            damage = _damage_on_opening(entry)
            if not damage:
                return entry
            log.warning("cache entry %s is damaged (%s) and is prepared anew", entry, damage[0])
            _remove(entry)
        for left_over in cache.glob(f".building-{name}-*"):
            _remove(left_over)
        folder = Path(tempfile.mkdtemp(prefix=f".building-{name}-", dir=cache))
        try:
            build(folder)
            manifest = {"format": DATA_FORMAT, "files": {file: _checksum(folder / file) for file in _files(folder)}}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
            folder.chmod(0o755)
            folder.rename(entry)
        finally:
            _remove(folder)
    if damage := _damage_on_opening(entry):
        raise InputError(f"{entry} should read as it was written: {damage[0]}. Check the disk.")
    return entry


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise InputError(
                f"The disk under {cache} is full: free some space, or set FUNREC_CACHE to another disk."
            ) from error
        raise InputError(
            f"The cache {cache} should be a folder that can be written to: {one_line(error)}. Set FUNREC_CACHE."
        ) from error


def entries(cache: Path) -> list[Path]:
    """Return the cache's entries, the oldest first."""
    found = [path for path in cache.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def verify(entry: Path) -> list[str]:
    """Read every file of an entry again and return what is wrong with it; empty when it is sound."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
        files = manifest["files"]
        if manifest["format"] != DATA_FORMAT:
            return [f"{MANIFEST} is of format {manifest['format']}, not {DATA_FORMAT}"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST} is unreadable: {one_line(error)}"]
    damage = []
    for file, checksum in files.items():
        try:
            if _checksum(entry / file) != checksum:
                damage.append(f"{file} has changed since it was written")
        except OSError:
            damage.append(f"{file} is missing or unreadable")
    return damage


def _damage_on_opening(entry: Path) -> list[str]:
    """Verify an entry, unless it was verified before and no file's size or time has changed since."""
    stamp = entry / VERIFIED
    try:
        if json.loads(stamp.read_text()) == _stamp(entry):
            return []
    except (OSError, ValueError):
        pass
    damage = verify(entry)
    if not damage:
        try:
            partial = entry / f".{VERIFIED}-{os.getpid()}"
            partial.write_text(json.dumps(_stamp(entry)))
            partial.replace(stamp)
        except OSError:
            log.debug("cache entry %s cannot be stamped as verified: it will be verified again", entry)
    return damage


def _stamp(entry: Path) -> dict[str, list[int]]:
    files = [*_files(entry), MANIFEST]
    return {file: [(entry / file).stat().st_size, (entry / file).stat().st_mtime_ns] for file in files}


def _files(folder: Path) -> list[str]:
    """Return every file that belongs to an entry, relative to it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.name != MANIFEST and VERIFIED not in path.name)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
