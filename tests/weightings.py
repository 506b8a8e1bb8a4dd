"""The weightings there are, found by the files in `conf/weighting`, and how to make one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.schema import Task
from funrec.weighting.base import Weighting

CONF = Path(__file__).parents[1] / "conf" / "weighting"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


def make(name: str, tasks: Sequence[Task], *overrides: str) -> Weighting:
    """Return a configured weighting, as its configuration file describes it."""
    weighting = build(compose([f"weighting={name}", *overrides])["weighting"], Weighting, "weighting")
    weighting.configure(tasks)
    return weighting
