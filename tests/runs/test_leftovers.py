"""What may go, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from funrec.runs.leftovers import OWN, clean, leftovers
from funrec.runs.record import RunLock, write, write_failure

RECORD = {"label": "mmoe", "config": {}, "tasks": [], "metrics": {}, "rows_per_second": None}


def interrupted(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir()
    for name in ("checkpoint.npz", "funrec.log", "model/weights.npz", ".record.json.1.tmp"):
        (folder / name).write_text("x")
    with RunLock(folder):
        pass
    return folder


def test_an_interrupted_or_failed_run_goes_as_a_whole_and_a_finished_one_stays(tmp_path: Path) -> None:
    stopped, failed, finished = (interrupted(tmp_path / name) for name in ("1", "2", "3"))
    write_failure(failed, "disk full")
    write(finished, RECORD)
    found = leftovers(tmp_path)
    assert found == [stopped, failed, finished / "checkpoint.npz", finished / ".record.json.1.tmp"]
    assert clean(found) == found
    assert not stopped.exists() and not failed.exists()
    assert {path.name for path in finished.iterdir()} == {"model", "funrec.log", "record.json", ".lock"}
    assert leftovers(finished) == []


def test_a_running_run_keeps_all_it_has_also_if_it_was_resumed_since_it_was_listed(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    found = leftovers(tmp_path)
    with RunLock(folder):
        assert leftovers(tmp_path) == []
        assert clean(found) == []
    write(folder, RECORD)
    assert clean(found) == []  # nor does one that finished since
    assert (folder / "checkpoint.npz").exists()


def test_a_folder_with_files_of_ones_own_stays_with_them(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    (folder / "thesis.tex").write_text("years of work")
    found = leftovers(tmp_path)
    assert folder not in found
    assert sorted(clean(sorted(found))) == sorted(found)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_of_a_pruned_run_its_weights_go(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    write_failure(folder, "pruned at epoch 1", "pruned")
    found = leftovers(tmp_path)
    assert {path.name for path in found} == {"checkpoint.npz", "weights.npz", ".record.json.1.tmp"}
    assert clean(found) == found
    assert (folder / "failure.json").exists()


def test_what_is_no_run_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert clean([tmp_path / "file", tmp_path]) == []
    assert (tmp_path / "file").exists()


def test_a_run_s_own_files_are_all_known(tmp_path: Path) -> None:
    from test_resume import interrupted as interrupted_run

    folder = interrupted_run(tmp_path / "run")
    assert {path.name for path in folder.iterdir()} <= set(OWN)
    assert leftovers(tmp_path) == [folder]


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_a_path_without_a_run_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=path):
        leftovers(tmp_path / path)
