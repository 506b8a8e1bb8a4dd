"""The site's cards, a page per group of `conf/`: what a part computes, where it is from, when it helps, its options.

A hook of MkDocs (mkdocs.yml). All of it comes from a YAML file's first comment, its line that starts with
`# When:`, and its class's docstring, so that a new file has a card without being listed anywhere.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from generate_configuration_reference import PROGRAM, ROOT, Loader, keys, table
from mkdocs.structure.files import File, Files

from funrec.config.build import resolve
from funrec.utils.logging import load_tensorflow

#: Pages by group: their titles, how an option is chosen, and the pages' first words.
PAGES = {
    "model/backbone": (
        "Backbones",
        "model/backbone={}",
        "What the tasks share. Every backbone runs under every funnel and interaction. `model={}`, where such a preset "
        "exists, is the paper's model: this backbone with independent heads.",
    ),
    "model/funnel": (
        "Funnels",
        "model/funnel={}",
        "How the tasks' probabilities depend on each other. `dataset.tasks.<name>.after` says which follows which.",
    ),
    "model/interaction": (
        "Interactions",
        "model/interaction={}",
        "How features are crossed before the backbone reads them. What they gain on data made of crosses is in "
        "[Does a mechanism show?](../mechanisms.md)",
    ),
    "weighting": (
        "Loss weightings",
        "weighting={}",
        "How the tasks' losses become one. `L_t` is task t's loss, `g_t` its gradient over what is shared, `G` the "
        "Gramian `G_ij = <g_i, g_j>`, `T` the number of tasks. What was measured is in [weightings](../weightings.md).",
    ),
    "loss": (
        "Losses",
        "dataset.tasks.TASK.loss={}",
        "The loss of one task. Which fits which kind of task is in [objectives](../objectives.md).",
    ),
    "pooling": (
        "Poolings of sequences",
        "dataset.features.FEATURE.pooling={}",
        "How a sequence's values, such as what a user watched last, become one vector. Where sequences come from is in "
        "[features of what happened before](../history.md).",
    ),
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages to the site."""
    load_tensorflow(look_for_devices=False)
    for group in PAGES:
        name = f"cards/{group.rpartition('/')[2]}.md"
        files.append(File.generated(config, name, content="\n\n".join(page(group)) + "\n"))
    return files


def page(group: str) -> Iterator[str]:
    """Yield the parts of a group's page."""
    title, choice, words = PAGES[group]
    yield f"# {title}"
    yield words
    for file in sorted((ROOT / "conf" / group).glob("[!_]*.yaml")):
        yield from card(file, choice.format(file.stem))


def card(file: Path, choice: str) -> Iterator[str]:
    """Yield the parts of one option's card."""
    text = file.read_text("utf-8")
    comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("# ") and not line.startswith("# @")]
    content = yaml.load(text, Loader)
    kind = resolve(content["_target_"], object, "_target_")
    yield f"## {file.stem}"
    yield f"**{comments[0]}**"
    if when := [comment.removeprefix("When: ") for comment in comments if comment.startswith("When: ")]:
        yield f"**When it helps:** {when[0]}"
    yield f"    funrec run {choice}"
    yield described(kind)
    if rows := list(keys(kind, content, PROGRAM if "model/" in choice else frozenset())):
        yield table(rows)
    yield f"Source: `{inspect.getmodule(kind).__name__}`"  # type: ignore[union-attr]


def described(kind: type) -> str:
    """Return a class's docstring without its sections of arguments and errors, which the table spells."""
    text = re.sub(r"^(Args|Attributes|Raises):\n( {4}.*\n?|\n)*", "", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    return re.sub(r"^(Input|Output) shape:", r"\n\1 shape:", text, flags=re.MULTILINE).strip()
