"""The page of configuration keys is what its script writes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_configuration_reference_is_current() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "generate_configuration_reference.py"))
    is_current = script["page"]() == script["PAGE"].read_text("utf-8")
    assert is_current, "run python scripts/generate_configuration_reference.py and commit docs/configuration.md"
