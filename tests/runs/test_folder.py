"""A run folder: making one, holding it while the run lives, and telling its state."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from funrec.runs.folder import Status, find_runs, hold, new_run_folder, status, write_failure
from funrec.runs.record import write
from funrec.utils.errors import InputError

RECORD = {"label": "mmoe", "config": {}, "tasks": [], "metrics": {}, "rows_per_second": None}

HOLD = """
import sys, time
from funrec.runs.folder import hold

with hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def living_run(tmp_path):
    """A real process that holds the run folder `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def test_a_folder_where_nothing_ran_has_no_state(tmp_path):
    assert status(tmp_path) == status(tmp_path / "nowhere") == Status("absent")


def test_a_killed_run_goes_from_running_to_interrupted(tmp_path, living_run):
    assert status(tmp_path) == Status("running")
    os.kill(living_run.pid, signal.SIGKILL)
    living_run.wait(timeout=10)
    assert status(tmp_path) == Status("interrupted")


def test_a_second_run_in_the_folder_of_a_living_one_is_refused(tmp_path, living_run):
    with pytest.raises(InputError, match="another process runs in it"), hold(tmp_path):
        pass
    assert status(tmp_path) == Status("running")


def test_a_run_sees_itself_running(tmp_path):
    with hold(tmp_path):
        assert status(tmp_path) == Status("running")
    assert status(tmp_path) == Status("interrupted")


def test_a_failed_run_tells_its_reason_in_one_line(tmp_path):
    with hold(tmp_path):
        write_failure(tmp_path, "the loss of is_like is NaN at step 7.\nTraceback ...")
        assert status(tmp_path) == Status("running")
    assert status(tmp_path) == Status("failed", "the loss of is_like is NaN at step 7")


def test_a_damaged_failure_note_still_says_failed(tmp_path):
    (tmp_path / "failure.json").write_text("{")
    assert status(tmp_path) == Status("failed", "failure.json cannot be read")


def test_a_new_attempt_forgets_why_the_last_one_failed(tmp_path):
    write_failure(tmp_path, "disk full")
    with hold(tmp_path):
        pass
    assert status(tmp_path) == Status("interrupted")


def test_a_record_alone_means_finished(tmp_path):
    write_failure(tmp_path, "an earlier attempt")
    write(tmp_path, RECORD)
    assert status(tmp_path) == Status("finished")


def test_a_half_written_record_is_not_one(tmp_path):
    with hold(tmp_path):
        (tmp_path / ".record.json.1.tmp").write_text("{")
    assert status(tmp_path) == Status("interrupted")


def test_a_finished_run_is_not_run_over(tmp_path):
    with hold(tmp_path):
        write(tmp_path, RECORD)
    with pytest.raises(InputError, match="holds a finished run already"), hold(tmp_path):
        pass
    assert status(tmp_path) == Status("finished")


def test_a_run_can_hold_a_folder_again_after_a_refusal(tmp_path, living_run):
    with pytest.raises(InputError), hold(tmp_path):
        pass
    living_run.kill()
    living_run.wait(timeout=10)
    with hold(tmp_path):
        assert status(tmp_path) == Status("running")


def test_those_who_look_at_the_same_time_do_not_take_each_other_for_the_run(tmp_path):
    with hold(tmp_path):
        pass
    with ThreadPoolExecutor(16) as pool:
        seen = set(pool.map(lambda _: status(tmp_path).state, range(2000)))
    assert seen == {"interrupted"}


def test_a_run_starts_while_others_look_at_its_folder(tmp_path):
    with hold(tmp_path):
        pass
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(status, tmp_path) for _ in range(2000)]
        for _ in range(20):
            with hold(tmp_path):
                pass
        assert {look.result().state for look in looks} <= {"interrupted", "running"}


def test_locking_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="should be a folder to write to"), hold(tmp_path / "nowhere"):
        pass


def test_runs_that_start_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path / "outputs", "2026-01-02_03-04-05"), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)
    assert {folder.name for folder in folders} >= {"2026-01-02_03-04-05", "2026-01-02_03-04-05_2"}


@pytest.mark.parametrize("parent", ["file", "file/below"])
def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path, parent):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as error:
        new_run_folder(tmp_path / parent, "run")
    assert "\n" not in str(error.value)
    assert "Choose another" in str(error.value)


@pytest.fixture
def sweep(tmp_path):
    """Three jobs, one of them unfinished, beside and around things that are no runs of their own."""
    for job in ("2", "10"):
        (tmp_path / "sweep" / job).mkdir(parents=True)
        write(tmp_path / "sweep" / job, RECORD)
    (tmp_path / "sweep" / "1" / ".hydra").mkdir(parents=True)
    with hold(tmp_path / "sweep" / "1"):
        pass
    (tmp_path / "sweep" / "2" / "model").mkdir()
    write(tmp_path / "sweep" / "2" / "model", RECORD)
    (tmp_path / "sweep" / ".cache").mkdir()
    write(tmp_path / "sweep" / ".cache", RECORD)
    (tmp_path / "sweep" / "notes.txt").write_text("x")
    return tmp_path / "sweep"


def test_a_folder_of_runs_is_searched_in_the_order_of_its_numbers(sweep):
    assert find_runs(sweep) == find_runs(sweep.parent) == [sweep / "1", sweep / "2", sweep / "10"]


def test_a_run_folder_is_found_as_itself(sweep):
    assert find_runs(sweep / "10") == [sweep / "10"]


def test_a_glob_names_runs_once(sweep):
    assert find_runs(f"{sweep}/1*") == [sweep / "1", sweep / "10"]
    assert find_runs(f"{sweep.parent}/**") == [sweep / "1", sweep / "2", sweep / "10"]


def test_a_folder_whose_name_looks_like_a_glob_is_taken_as_it_is(tmp_path):
    folder = tmp_path / "lr=[1]"
    folder.mkdir()
    write(folder, RECORD)
    assert find_runs(folder) == [folder]


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*", "empty"])
def test_a_path_without_a_run_is_refused_in_one_line(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        find_runs(tmp_path / path)
    assert str(tmp_path / path) in str(error.value)
    assert "\n" not in str(error.value)
