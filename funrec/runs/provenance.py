"""What a run was made from: code, versions, configuration and data; and whether a resumed run is made from the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from funrec.runs.folder import checkpoint_notes
from funrec.utils.errors import InputError
from funrec.utils.files import flatten
from funrec.utils.installation import VERSION

log = logging.getLogger("funrec")

#: Names under which a library is distributed, by the name that a record gives it.
DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras", "keras-nightly"),
    "numpy": ("numpy",),
    "polars": ("polars", "polars-lts-cpu"),
    "hydra": ("hydra-core",),
}

#: Libraries whose versions decide what a training computes.
NUMERICAL = ("python", "tensorflow", "keras", "numpy")
#: Settings that do not change what a training computes.
IRRELEVANT = ("baselines", "protocol", "report.", "trainer.checkpoint_minutes", "trainer.keep", "tracking", "tuned_on")

PACKAGE = Path(__file__).parents[1]


def git_commit(folder: str | Path = PACKAGE) -> str | None:
    """Return the commit of the checkout that tracks `folder`, `+dirty` added if anything in it was changed.

    None without git, and where no file of the folder is tracked: a package installed inside another
    repository does not come from that repository's commit.
    """
    if not _git(folder, "ls-files", "--", "."):
        return None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    return commit.strip() + ("+dirty" if _git(folder, "status", "--porcelain") != "" else "")


class OriginChanged(InputError):
    """A run was begun with other code, data, libraries or configuration than there are now."""


@cache
def running_code() -> dict[str, str | None]:
    """Return `git_commit` and `source_hash` of the code as a process first saw it, which is the code it runs."""
    return {"git_commit": git_commit(), "source_hash": source_hash()}


def origin(config: Mapping[str, Any], data_fingerprint: str) -> dict[str, Any]:
    """Return what a training is made from, as JSON has it: what should be the same when it is resumed."""
    settings = dict(flatten(json.loads(json.dumps(config))))
    return {
        "settings": {key: value for key, value in settings.items() if not key.startswith(IRRELEVANT)},
        "data": data_fingerprint,
        "code": running_code()["source_hash"],
        "versions": {name: version for name, version in versions().items() if name in NUMERICAL},
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two origins differ; empty where they do not."""
    found = []
    for kind in ("settings", "versions"):
        before, after = then.get(kind, {}), now[kind]
        changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        found += [f"{key} was {before.get(key)} and is {after.get(key)}" for key in changed]
    if then.get("code") != now["code"]:
        found.append("funrec's code has changed")
    if then.get("data") != now["data"] and not any(text.startswith("dataset.") for text in found):
        found.append("the raw files have changed")
    return found


def check_origin(config: Mapping[str, Any], folder: Path, force: bool) -> None:
    """Check that a checkpoint's configuration, data, code and libraries are those of now.

    Args:
        config: The configuration to resume with.
        folder: The run's folder.
        force: Whether to log the differences and resume.

    Raises:
        OriginChanged: If they are not, with what differs.
    """
    # Polars starts threads, and jobs are forked from a process that has imported this module.
    from funrec.config.build import build
    from funrec.data.datasets.base import Dataset
    from funrec.data.preparation.cache import fingerprint

    notes = checkpoint_notes(folder)
    if notes is None:
        return
    dataset = build(config["dataset"], Dataset, "dataset")
    found = differences(notes.get("origin", {}), origin(config, fingerprint(dataset)))
    if not found:
        return
    if not force:
        raise OriginChanged(
            f"{folder} should be resumed as it began, {notes['position']}. Changed since: {'; '.join(found)}. "
            "Run it anew, or resume all the same with --force."
        )
    log.warning("Resuming although this has changed: %s.", "; ".join(found))


def versions() -> dict[str, str | None]:
    """Return the versions of Python, funrec and its main libraries; None for one that is not installed."""
    known = {"python": platform.python_version(), "funrec": VERSION}
    return known | {name: _version(DISTRIBUTIONS[name]) for name in DISTRIBUTIONS}


def source_hash(folder: str | Path = PACKAGE) -> str:
    """Return the SHA-256 of every Python file below `folder`: names and contents, nothing of time or place."""
    folder = Path(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    digest = hashlib.sha256()
    for name in names:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _git(folder: str | Path, *arguments: str) -> str | None:
    # Inside a git hook GIT_DIR points at the hook's repository; and looking must not write to the index.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
