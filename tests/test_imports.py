"""What must start in a fraction of a second imports no TensorFlow."""

import subprocess
import sys

import pytest

TENSORFLOW = {"tensorflow", "keras"}


def packages_after(code):
    """Run code in a fresh interpreter; return the packages that it imported."""
    report = "print(*{name.partition('.')[0] for name in sys.modules}, sep=chr(10))"
    command = [sys.executable, "-c", f"import sys\n{code}\nprint()\nprint('--')\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("--\n")[2].split())


@pytest.mark.parametrize(
    "module",
    [
        "funrec",
        "funrec.cli.main",
        "funrec.data.preparation.prepare",
        "funrec.metrics",
        "funrec.runs.record",
        "funrec.runs.tables",
        "funrec.report",
    ],
)
def test_importing_a_light_module_imports_no_tensorflow(module):
    assert packages_after(f"import {module}").isdisjoint(TENSORFLOW)


def test_asking_for_help_imports_nothing_that_takes_long():
    code = """
from funrec.cli.main import main

sys.argv = ["funrec", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    packages = packages_after(code)
    assert "funrec" in packages
    assert packages.isdisjoint({*TENSORFLOW, "pandas", "polars", "sklearn"})


def test_the_check_sees_a_heavy_import():
    assert packages_after("import keras") >= TENSORFLOW
