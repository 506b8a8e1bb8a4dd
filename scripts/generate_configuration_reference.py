"""Write docs/configuration.md: every configuration key, its default and its meaning, from signatures and docstrings.

python scripts/generate_configuration_reference.py           writes the page
python scripts/generate_configuration_reference.py --check   exits with 1 if the page is not current
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from funrec.config.build import resolve
from funrec.config.defaults import PROGRAM
from funrec.data.features.history import HistorySettings, HistorySpec
from funrec.schema import FEATURES, SplitRule, Task
from funrec.utils.logging import load_tensorflow
from funrec.utils.specs import spec_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"

#: Groups of `conf/`, with the words that stand above each.
GROUPS = {
    "dataset": "Where rows come from. Features, tasks and the split, which every dataset has, are above.",
    "model": "Presets: which interaction, backbone, funnel and wide part, and what every model has around them.",
    "model/interaction": "How features are crossed before the backbone reads them.",
    "model/backbone": "What the tasks share.",
    "model/funnel": "How the tasks' probabilities depend on each other.",
    "model/wide": "What is added to the logits beside the network.",
    "pooling": "How a sequence's values become one, by name in `dataset.features.<name>.pooling`.",
    "loss": "The loss of a task, by name in `dataset.tasks.<name>.loss`.",
    "weighting": "How the tasks' losses become one.",
    "optimizer": "Keras' optimizers have the options that Keras documents.",
    "trainer": "The training loop.",
    "calibration": "Probabilities corrected after training, on `dataset.split.calibrate_from` or `.calibrate`.",
    "metrics/extra": "Further columns of the table: `metrics/extra=[recall_at_k]`.",
    "tracking": "Where runs are followed: `tracking=tensorboard`.",
    "protocol": "Public splits, metrics and row counts to compare with: `protocol=techjam2026_track2`.",
}

HEAD = """\
# Every configuration key

Written by `python scripts/generate_configuration_reference.py`; a test holds it current. A default is a constructor's
own; where a configuration file sets another, that one is shown. Any key below can be overridden on the command line:
`funrec run model.backbone.num_experts=4 dataset.features.user_id.embedding_dim=16`. `funrec run --cfg job` prints what
would run, every key spelt out.
"""


class Loader(yaml.SafeLoader):
    """YAML whose references are left alone."""


def page() -> str:
    """Return the page."""
    load_tensorflow(look_for_devices=False)
    parts = [HEAD, *_top_level(), *_dataset_parts()]
    for group, words in GROUPS.items():
        files = sorted((ROOT / "conf" / group).glob("*.yaml"))
        if files:
            parts += [f"## {group}", words]
            parts += [text for file in files if not file.name.startswith("_") for text in _option(group, file)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _top_level() -> Iterator[str]:
    """Yield the keys that files alone spell, with the comments that stand beside them."""
    for name in ("config.yaml", "metrics/default.yaml", "tune.yaml"):
        file = ROOT / "conf" / name
        if rows := list(_commented(file.read_text("utf-8"))):
            prefix = "metrics." if name.startswith("metrics") else ""
            yield f"## conf/{name}"
            yield table((prefix + key, default, meaning) for key, default, meaning in rows)


def _commented(text: str) -> Iterator[tuple[str, str, str]]:
    section = ""
    for line in text.partition("defaults:")[2].splitlines() or text.splitlines():
        if found := re.match(r"^(\s*)([a-z_]+):\s*([^#]*?)\s*#\s*(.+)$", line):
            indent, key, default, meaning = found.groups()
            section = section if indent else ""
            yield (f"{section}{key}", default or "null", meaning)
        elif found := re.match(r"^([a-z_]+):\s*$", line):
            section = f"{found[1]}."


def _dataset_parts() -> Iterator[str]:
    yield "## Features, tasks, split"
    yield "`dataset.features` and `dataset.tasks` are mappings by name."
    for kind in FEATURES:
        yield f"### dataset.features.&lt;name&gt;, kind: {kind.kind}"
        yield _summary(kind)
        yield table(keys(kind, {}, {"name"}))
    yield "### dataset.features.&lt;name&gt;, kind: history"
    yield _summary(HistorySpec) + " It takes the keys of the number or sequence that it becomes, too."
    yield table(keys(HistorySpec, {}, {"name"}))
    yield "### dataset.history"
    yield _summary(HistorySettings)
    yield table(keys(HistorySettings, {}, {"name"}))
    for title, kind in (("dataset.tasks.&lt;name&gt;", Task), ("dataset.split", SplitRule)):
        yield f"### {title}"
        yield _summary(kind)
        yield table(keys(kind, {}, {"name"}))


def _option(group: str, file: Path) -> Iterator[str]:
    content = yaml.load(file.read_text("utf-8"), Loader) or {}
    yield f"### {group}={file.stem}"
    comments = (line for line in file.read_text("utf-8").splitlines() if line.startswith("# ") and line[2] != "@")
    comment = next(comments, "").lstrip("# ")
    if comment:
        yield comment
    if group == "model" and "_target_" not in content:
        base = yaml.load((ROOT / "conf" / "model" / "_base.yaml").read_text("utf-8"), Loader)
        content = {**base, **content}
    if target := content.get("_target_"):
        rows = list(keys(resolve(target, object, "_target_"), content, PROGRAM if group == "model" else frozenset()))
        if rows and not (group == "model" and file.stem != "mmoe"):
            yield table(rows)


def keys(kind: type, content: Mapping[str, Any], given: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of a class, their defaults or what `content` sets, and their meanings; not those in `given`."""
    meanings = _meanings(kind)
    for key, parameter in spec_of(kind, given).parameters.items():
        default = parameter.default
        if key in content:
            default = content[key]
        yield key, "required" if default is inspect.Parameter.empty else _spelt(default), meanings.get(key, "")


def _meanings(kind: type) -> dict[str, str]:
    """Return what docstrings say of every argument, base classes' included."""
    found: dict[str, str] = {}
    for owner in reversed(inspect.getmro(kind)):
        text = inspect.cleandoc(vars(owner).get("__doc__") or "")
        for section in re.findall(r"(?:Args|Attributes):\n((?:[ ]{4}.*\n?|\n)+)", text):
            for key, meaning in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE):
                found[key] = " ".join(meaning.split())
    return found


def _summary(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]


def _spelt(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else value or '""'


def table(rows: Any) -> str:
    """Return rows of key, default and meaning as a Markdown table."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for cells in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Write the page, or say whether it is current."""
    parser = argparse.ArgumentParser(description="Write docs/configuration.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not current")
    text = page()
    if parser.parse_args().check:
        return int(not PAGE.is_file() or PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
