"""What may go, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from funrec.runs.folder import hold, removable, remove, write_failure
from funrec.runs.record import write

RECORD = {"label": "mmoe", "config": {}, "tasks": [], "metrics": {}, "rows_per_second": None}


def interrupted(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir()
    for name in ("checkpoint.npz", "funrec.log", "model/weights.npz", ".record.json.1.tmp"):
        (folder / name).write_text("x")
    with hold(folder):
        pass
    return folder


def test_an_interrupted_or_failed_run_goes_as_a_whole_and_a_finished_one_stays(tmp_path: Path) -> None:
    stopped, failed, finished = (interrupted(tmp_path / name) for name in ("1", "2", "3"))
    write_failure(failed, "disk full")
    write(finished, RECORD)
    found = removable(tmp_path)
    assert found == [stopped, failed, finished / "checkpoint.npz", finished / ".record.json.1.tmp"]
    assert remove(found) == found
    assert not stopped.exists() and not failed.exists()
    assert {path.name for path in finished.iterdir()} == {"model", "funrec.log", "record.json", ".lock"}
    assert removable(finished) == []


def test_a_running_run_keeps_all_it_has_also_if_it_was_resumed_since_it_was_listed(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    found = removable(tmp_path)
    with hold(folder):
        assert removable(tmp_path) == []
        assert remove(found) == []
    write(folder, RECORD)
    assert remove(found) == []  # nor does one that finished since
    assert (folder / "checkpoint.npz").exists()


def test_a_folder_with_files_of_ones_own_stays_with_them(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    (folder / "thesis.tex").write_text("years of work")
    found = removable(tmp_path)
    assert folder not in found
    assert sorted(remove(sorted(found))) == sorted(found)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("mine", ["model/notes.md", ".hydra/mine.yaml", ".thesis.tmp", ".hydra/deep/er", "model/link"])
def test_files_of_the_user_stay_wherever_they_are(mine: str, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    (folder / mine).parent.mkdir(parents=True, exist_ok=True)
    if mine == "model/link":
        (tmp_path / "elsewhere").write_text("years of work")
        (folder / mine).symlink_to(tmp_path / "elsewhere")
    else:
        (folder / mine).write_text("years of work")
    found = removable(tmp_path)
    assert folder not in found
    assert remove(found) == found
    assert [path for path in folder.rglob("*") if not path.is_dir()] == [folder / mine]
    assert (folder / mine).read_text() == "years of work"


def test_of_a_pruned_run_its_weights_go(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    write_failure(folder, "pruned at epoch 1", "pruned")
    found = removable(tmp_path)
    assert {path.name for path in found} == {"checkpoint.npz", "weights.npz", ".record.json.1.tmp"}
    assert remove(found) == found
    assert (folder / "failure.json").exists()


def test_what_is_no_run_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert remove([tmp_path / "file", tmp_path]) == []
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_a_path_without_a_run_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=path):
        removable(tmp_path / path)
