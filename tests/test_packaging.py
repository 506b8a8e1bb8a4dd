"""A built wheel holds all of funrec and runs outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHIPPED = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "funrec", "conf")
OTHER = "funrec-1.0.10.dist-info"  # of the other project of that name


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments, **options):
    quiet = ("--disable-pip-version-check", "--quiet", "--no-deps", "--no-index")
    return run(sys.executable, "-m", "pip", arguments[0], *quiet, *arguments[1:], **options)


def files_below(folder, *suffixes):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in suffixes}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout, so that neither lends the other old build products."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy)  # the wheel is made from the sdist
    (built,) = out.glob("funrec_lab-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The environment of a process that sees the installed wheel and not the checkout."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--target", target, wheel)
    return os.environ | {"PYTHONPATH": str(target)}


def test_a_wheel_holds_every_module_and_every_configuration(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = files_below(ROOT / "funrec", ".py")
    configurations = files_below(ROOT / "conf", ".yaml")
    assert {f"funrec/{name}" for name in modules} <= names
    assert {f"funrec/conf/{name}" for name in configurations} <= names
    assert "config.yaml" in configurations


def test_a_wheel_holds_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"funrec", "funrec_lab"}
    suffixes = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert suffixes == {".py", ".yaml", ".html", ".css", ".js", ".typed"}


def test_an_installed_wheel_brings_its_own_configuration(installed, tmp_path):
    code = "import funrec, funrec.conf; print(funrec.__file__); print(funrec.conf.__file__)"
    for line in run(sys.executable, "-c", code, cwd=tmp_path, env=installed).splitlines():
        assert line.startswith(installed["PYTHONPATH"])


def test_an_installed_wheel_runs_from_an_empty_folder_with_its_own_launcher(installed, tmp_path):
    command = "-m funrec.cli.main run -m hydra/launcher=process model=mmoe seed=1 dataset.rows=3000 trainer=smoke"
    table = run(sys.executable, *command.split(), cwd=tmp_path, env=installed)
    assert table.count("| mmoe ") == 1 and "auc_is_click" in table
    assert len(list((tmp_path / "outputs").rglob("record.json"))) == 1


def test_the_command_refuses_to_run_beside_the_other_project_called_funrec(installed, tmp_path):
    target = shutil.copytree(installed["PYTHONPATH"], tmp_path / "site")
    (target / OTHER).mkdir()
    environment = os.environ | {"PYTHONPATH": str(target)}
    command = [sys.executable, "-m", "funrec.cli.main", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "funrec-1.0.10. Run pip uninstall funrec" in done.stderr
