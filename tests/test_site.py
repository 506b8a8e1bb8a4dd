"""The documentation's site: both languages build without a warning, and no link between their pages is dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
        reason='needs MkDocs: pip install -e ".[docs]"',
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site in both languages, built as mkdocs.yml says, with every warning an error."""
    site = tmp_path_factory.mktemp("site")
    for config, folder in (("mkdocs.yml", site), ("mkdocs.zh.yml", site / "zh")):
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / config), "-d", str(folder)]
        built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
        assert built.returncode == 0, built.stderr
    return site


class Page(HTMLParser):
    """What a page links to, and what on it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links.update(link for name in ("href", "src") if (link := found.get(name)))
        self.anchors.update(anchor for name in ("id", "name") if (anchor := found.get(name)))


def dead_links(site: Path) -> list[str]:
    pages = {file: Page(file.read_text("utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    dead = []
    for file, page in pages.items():
        for link in page.links:
            path, anchor = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            target = (file.parent / unquote(path)).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and target in pages and unquote(anchor) not in pages[target].anchors):
                dead.append(f"{file.relative_to(site)}: {link}")
    return sorted(dead)


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    assert dead_links(site.resolve()) == []


def test_a_dead_link_or_anchor_is_found(site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    with (copy / "zh" / "index.html").open("a", encoding="utf-8") as page:
        page.write('<a href="../nowhere/">x</a><a href="../tutorial/#nowhere">x</a>')
    assert dead_links(copy.resolve()) == ["zh/index.html: ../nowhere/", "zh/index.html: ../tutorial/#nowhere"]


@pytest.mark.parametrize("group", ["backbone", "funnel", "interaction", "weighting", "loss", "pooling"])
def test_every_part_has_a_card_that_says_when_it_helps(site: Path, group: str) -> None:
    folder = ROOT / "conf" / (group if group in ("weighting", "loss", "pooling") else f"model/{group}")
    names = {file.stem for file in folder.glob("[!_]*.yaml")}
    text = (site / "cards" / group / "index.html").read_text("utf-8")
    assert names <= Page(text).anchors
    assert text.count("When it helps:") == len(names)
