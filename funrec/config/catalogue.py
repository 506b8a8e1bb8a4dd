"""What there is to choose from: the configuration files, by what their first lines say of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from funrec.utils.errors import InputError, did_you_mean

#: Folders of configuration files beside funrec's own, for this process and those that it starts.
FOLDERS_VARIABLE = "FUNREC_CONFIG_DIR"

#: By kind: the folders of `conf/` that hold it, and what its files are chosen with.
GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "models": (
        ("model", ""),
        *((f"model/{part}", f"model/{part}=") for part in ("backbone", "funnel", "interaction", "wide")),
    ),
    "datasets": (("dataset", ""),),
    "weightings": (("weighting", ""),),
    "interactions": (("model/interaction", "model/interaction="),),
    "losses": (("loss", ""),),
    "poolings": (("pooling", ""),),
    "calibrations": (("calibration", "calibration="),),
    "metrics": (("metrics/extra", "metrics/extra="),),
    "trackers": (("tracking", "tracking="),),
    "protocols": (("protocol", "protocol="),),
    "downloads": (("download", ""),),
    "experiments": (("experiment", ""),),
}


def describe(kind: str) -> list[tuple[str, str]]:
    """Return a name and a line about it for everything of a kind, sorted by name; parts of models follow the models.

    The line is the first comment of the YAML file. Files whose names begin with `_` are parts of others.

    Args:
        kind: One of `GROUPS`; `models` are whole ones, then their parts.
    """
    if kind not in GROUPS:
        raise InputError(f"{kind}: no such kind.{did_you_mean(kind, GROUPS)}")
    root = files("funrec.conf")
    found = []
    for folder, prefix in GROUPS[kind]:
        place = root.joinpath(folder)
        if not place.is_dir():
            continue
        for file in sorted(place.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".yaml") and not file.name.startswith("_"):
                found.append((prefix + file.name.removesuffix(".yaml"), _first_comment(file.read_text("utf-8"))))
    return found


def own_folders() -> list[Path]:
    """Return the folders of configuration files beside funrec's own."""
    return [Path(folder) for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if folder]


def add_folders(folders: Sequence[Path]) -> None:
    """Look for configurations in these folders too, in this process and those that it starts."""
    if places := dict.fromkeys(str(folder.resolve()) for folder in (*own_folders(), *folders)):
        os.environ[FOLDERS_VARIABLE] = os.pathsep.join(places)


def read_choice(group: str, name: str, where: str) -> dict[str, Any]:
    """Return what a file of a configuration group says, funrec's own or one of a folder in `FUNREC_CONFIG_DIR`.

    Args:
        group: Such as `loss`.
        name: The file's name, without its ending.
        where: What error messages call the choice.
    """
    found: dict[str, Any] = {}
    for folder in (*reversed(own_folders()), files("funrec.conf")):
        place = folder.joinpath(group)
        if place.is_dir():
            found |= {file.name.removesuffix(".yaml"): file for file in place.iterdir() if file.name.endswith(".yaml")}
    if name not in found:
        names = ", ".join(sorted(found))
        raise InputError(f"{where} should be one of {names}. Received: {name}.{did_you_mean(name, found)}")
    content = yaml.safe_load(found[name].read_text("utf-8"))
    if not isinstance(content, dict):
        raise InputError(f"{found[name]} should hold a _target_ and options. Received: {content}.")
    return content


def _first_comment(text: str) -> str:
    """Return the first comment that is not a directive, without its full stop."""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").rstrip().removesuffix(".")
    return ""
