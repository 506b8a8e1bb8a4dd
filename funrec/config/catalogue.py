"""What there is to choose from: the configuration files, by what their first lines say of them."""

from __future__ import annotations

from importlib.resources import files

from funrec.utils.errors import InputError, did_you_mean

#: By kind: the folders of `conf/` that hold it, and what its files are chosen with.
GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "models": (("model", ""), ("model/backbone", "model/backbone="), ("model/funnel", "model/funnel=")),
    "datasets": (("dataset", ""),),
    "weightings": (("weighting", ""),),
    "experiments": (("experiment", ""),),
}


def describe(kind: str) -> list[tuple[str, str]]:
    """Return a name and a line about it for everything of a kind, sorted by name; parts of models follow the models.

    The line is the first comment of the YAML file. Files whose names begin with `_` are parts of others.

    Args:
        kind: `models` (whole ones, then `model/backbone=` and `model/funnel=`), `datasets`, `weightings` or
            `experiments`.

    Raises:
        InputError: If there is no such kind.
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


def _first_comment(text: str) -> str:
    """Return the first comment that is not a directive, without its full stop."""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").rstrip().removesuffix(".")
    return ""
