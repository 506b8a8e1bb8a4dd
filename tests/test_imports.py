"""What must start in a fraction of a second imports no TensorFlow."""

import subprocess
import sys

TENSORFLOW = {"tensorflow", "keras"}


def packages_after(code):
    """Run code in a fresh interpreter; return the packages that it imported."""
    report = "print(*{name.partition('.')[0] for name in sys.modules}, sep=chr(10))"
    command = [sys.executable, "-c", f"import sys\n{code}\nprint()\nprint('--')\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("--\n")[2].split())


def test_importing_a_light_module_imports_no_tensorflow():
    """One after the other in one interpreter: what has come in by then is checked after each."""
    modules = ("", ".cli.main", ".metrics", ".runs.record", ".runs.tables", ".report", ".data.preparation.prepare")
    check = f"assert sys.modules.keys().isdisjoint({TENSORFLOW})"
    packages_after("\n".join(f"import funrec{module}; {check}, 'funrec{module}'" for module in modules))


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


def test_the_check_sees_a_heavy_import_in_a_lighter_one(tmp_path, monkeypatch):
    (tmp_path / "light.py").write_text("import keras\n")
    (tmp_path / "keras.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert not packages_after("import light").isdisjoint(TENSORFLOW)
