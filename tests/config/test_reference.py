"""The page of configuration keys is what its script writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_configuration_reference_is_current():
    script = ROOT / "scripts" / "generate_configuration_reference.py"
    run = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert run.returncode == 0, f"run python scripts/{script.name} and commit docs/configuration.md: {run.stderr}"
