"""The weightings there are, found by the files in `conf/weighting`, and how to make one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from funrec.config.build import build, resolve
from funrec.config.compose import compose
from funrec.schema import Task
from funrec.weighting.base import Weighting

CONF = Path(__file__).parents[1] / "conf" / "weighting"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


@cache
def settings(name: str, *overrides: str) -> Mapping[str, Any]:
    return compose([f"weighting={name}", *overrides], sections=["weighting"])["weighting"]


def kind(name: str) -> type[Weighting]:
    """Return the class that a configuration file names."""
    target = yaml.safe_load((CONF / f"{name}.yaml").read_text())["_target_"]
    return resolve(target, Weighting, "weighting")


def make(name: str, tasks: Sequence[Task], *overrides: str) -> Weighting:
    """Return a configured weighting, as its configuration file describes it."""
    weighting = build(settings(name, *overrides), Weighting, "weighting")
    weighting.configure(tasks)
    return weighting
