"""What code ran: its commit, its content, and the versions of what it stands on."""

import os
import platform
import subprocess
from importlib import metadata

import pytest

from funrec.runs.provenance import git_commit, source_hash, versions

IDENTITY = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *IDENTITY, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository that tracks one package and ignores `.venv`."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_checkout_gives_its_commit(checkout):
    assert git_commit(checkout / "package") == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["module.py", "new_backbone.py"])
def test_a_changed_or_new_file_marks_the_commit_dirty(checkout, name):
    (checkout / "package" / name).write_text("x = 2\n")
    assert git_commit(checkout / "package") == git(checkout, "rev-parse", "HEAD") + "+dirty"


def test_a_package_installed_inside_another_repository_has_no_commit(checkout):
    installed = checkout / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "module.py").write_text("x = 1\n")
    assert git_commit(installed) is None


def test_a_folder_outside_any_repository_has_no_commit(tmp_path):
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "nowhere") is None


def test_a_repository_without_a_commit_has_none(tmp_path):
    (tmp_path / "module.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    assert git_commit(tmp_path) is None


def test_a_git_hook_of_another_repository_does_not_mislead(checkout, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git_commit(checkout / "package") == git(checkout, "rev-parse", "HEAD")


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert git_commit(checkout / "package") is None


def test_the_source_hash_follows_names_and_contents_alone(tmp_path):
    def build(name, files):
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return source_hash(tmp_path / name)

    original = build("a", {"one.py": "x", "sub/two.py": "y"})
    assert build("b", {"sub/two.py": "y", "one.py": "x", "notes.txt": "z"}) == original
    assert build("c", {"one.py": "x", "sub/two.py": "changed"}) != original
    assert build("d", {"one.py": "x", "sub/three.py": "y"}) != original
    assert build("e", {"one.py": "xy", "sub/two.py": ""}) != original
    assert build("f", {"one.py": "xsub/two.py\0y"}) != original


def test_versions_name_python_and_the_libraries():
    found = versions()
    assert list(found) == ["python", "funrec", "tensorflow", "keras", "numpy", "polars", "hydra"]
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")
    assert found["hydra"] == metadata.version("hydra-core")
