"""What a run leaves behind: the record, the history and the predictions."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.utils.errors import InputError

RECORD = {
    "label": "mmoe",
    "config": {"seed": 1, "dataset": {"root": "data"}},
    "tasks": ["is_click"],
    "metrics": {"auc_is_click": 0.7, "val_user_is_click": 12},
    "rows_per_second": 70_000.0,
}


def message(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_record_reads_as_it_was_written(tmp_path):
    record.write(tmp_path, RECORD)
    assert record.read(tmp_path) == RECORD | {"absent": {}}


def test_a_record_takes_numpy_values_paths_and_times(tmp_path):
    extra = {
        "metrics": {"auc_is_click": np.float64(0.1) + np.float64(0.2), "val_user_is_click": np.int64(3)},
        "seconds": {"train": np.float32(0.5)},
        "shape": np.array([2, 3]),
        "root": Path("data"),
        "started": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "units": (128, 64),
    }
    record.write(tmp_path, RECORD | extra)
    read = record.read(tmp_path)
    assert read["metrics"] == {"auc_is_click": 0.1 + 0.2, "val_user_is_click": 3}
    assert read["seconds"] == {"train": 0.5}
    assert (read["shape"], read["root"], read["units"]) == ([2, 3], "data", [128, 64])
    assert read["started"] == "2026-01-02T03:04:05+00:00"


def test_a_metric_that_is_not_finite_moves_to_absent_and_other_numbers_become_null(tmp_path):
    metrics = {"auc_is_click": 0.7, "log_loss_is_click": float("nan"), "ratio_is_click": np.float32("inf")}
    absent = {"gauc_is_click": "no group column"}
    record.write(tmp_path, RECORD | {"metrics": metrics, "absent": absent, "config": {"min_delta": -float("inf")}})
    read = record.read(tmp_path)
    assert read["metrics"] == {"auc_is_click": 0.7}
    assert read["absent"] == absent | dict.fromkeys(["log_loss_is_click", "ratio_is_click"], "not a finite number")
    assert read["config"] == {"min_delta": None}


@pytest.mark.parametrize("field", ["label", "config", "tasks", "metrics", "rows_per_second"])
def test_a_record_without_a_required_field_is_not_written(tmp_path, field):
    with pytest.raises(ValueError, match=field):
        record.write(tmp_path, {name: value for name, value in RECORD.items() if name != field})
    assert list(tmp_path.iterdir()) == []


def test_a_value_without_a_json_form_is_refused_and_leaves_the_folder_as_it_was(tmp_path):
    record.write(tmp_path, RECORD)
    with pytest.raises(TypeError, match="Received: object"):
        record.write(tmp_path, RECORD | {"config": {"model": object()}})
    assert record.read(tmp_path)["config"] == RECORD["config"]
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"label": "mm',
        b"[1, 2]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        json.dumps(RECORD).replace("0.7", "NaN").encode(),
        json.dumps(RECORD | {"metrics": None}).encode(),
        json.dumps(RECORD | {"metrics": {"auc_is_click": "high"}}).encode(),
        json.dumps({"label": "mmoe"}).encode(),
    ],
    ids=["empty", "truncated", "list", "null", "binary", "deep", "nan", "no_metrics", "text_metric", "no_fields"],
)
def test_a_damaged_record_is_named_in_one_line(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        record.read(tmp_path)
    assert str(tmp_path / "record.json") in message(error)


def test_reading_an_unfinished_run_tells_its_state(tmp_path):
    with pytest.raises(InputError) as error:
        record.read(tmp_path / "nowhere")
    assert "Received: absent" in message(error)
    run_folder.write_failure(tmp_path, "the loss of is_like is NaN at step 7")
    with pytest.raises(InputError) as error:
        record.read(tmp_path)
    assert "failed (the loss of is_like is NaN at step 7)" in message(error)


def test_a_file_in_place_of_a_run_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as error:
        record.read(tmp_path / "file")
    assert "should be a finished run" in message(error)
    with pytest.raises(InputError) as error:
        record.write(tmp_path / "file", RECORD)
    assert "cannot be written" in message(error)


def test_a_history_keeps_every_key_and_its_full_precision(tmp_path):
    rows = [
        {"epoch": 1, "loss_is_click": np.float32(0.5), "auc_is_click": None},
        {"epoch": 2, "loss_is_click": 0.1 + 0.2, "auc_is_click": np.float64(0.7), "best": True},
    ]
    record.write_history(tmp_path, rows)
    assert record.read_history(tmp_path) == [
        {"epoch": 1, "loss_is_click": 0.5, "auc_is_click": None, "best": None},
        {"epoch": 2, "loss_is_click": 0.1 + 0.2, "auc_is_click": 0.7, "best": True},
    ]


def test_a_history_without_epochs_is_empty(tmp_path):
    record.write_history(tmp_path, [])
    assert record.read_history(tmp_path) == []


def test_predictions_keep_their_types_and_masked_labels(tmp_path):
    columns = {
        "row": np.arange(3, dtype=np.int32),
        "split": np.array(["valid", "valid", "random"]),
        "label_is_click": np.array([0, 1, np.nan], np.float32),
        "logit_is_click": np.array([-1.5, 2.25, 0.1], np.float32),
    }
    record.write_predictions(tmp_path, columns)
    read = record.read_predictions(tmp_path)
    assert list(read) == list(columns)
    for name in ("row", "label_is_click", "logit_is_click"):
        assert read[name].dtype == columns[name].dtype
        np.testing.assert_array_equal(read[name], columns[name])
    assert read["split"].tolist() == ["valid", "valid", "random"]


def test_some_columns_of_the_predictions_can_be_read_alone(tmp_path):
    record.write_predictions(tmp_path, {"a": np.arange(2), "b": np.arange(2)})
    assert list(record.read_predictions(tmp_path, ["b"])) == ["b"]
    with pytest.raises(InputError) as error:
        record.read_predictions(tmp_path, ["c"])
    assert "should have the columns c" in message(error)


def test_prediction_columns_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="equal lengths"):
        record.write_predictions(tmp_path, {"a": np.arange(1), "b": np.arange(2)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and then nothing"])
def test_missing_and_damaged_predictions_are_named_in_one_line(tmp_path, content):
    path = tmp_path / "predictions.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        record.read_predictions(tmp_path)
    assert str(path) in message(error)


FILL_THE_DISK = """
import resource, sys
import numpy as np
from funrec.runs import folder as run_folder, record

run_folder.write_failure(sys.argv[1], "earlier")
# Past this size a write fails as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
writers = {
    "record": lambda run: record.write(run, {
        "label": "mmoe", "config": {}, "tasks": [], "metrics": {}, "rows_per_second": 1, "more": "x" * 1000}),
    "failure": lambda run: run_folder.write_failure(run, "x" * 1000),
    "history": lambda run: record.write_history(run, [{"epoch": n} for n in range(1000)]),
    "predictions": lambda run: record.write_predictions(run, {"row": np.random.default_rng(0).random(10_000)}),
}
try:
    writers[sys.argv[2]](sys.argv[1])
except record.InputError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["record", "failure", "history", "predictions"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, what):
    command = [sys.executable, "-c", FILL_THE_DISK, str(tmp_path), what]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert done.stdout.count("\n") == 1
    assert "cannot be written: File too large" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["failure.json"]
    assert run_folder.status(tmp_path) == run_folder.Status("failed", "earlier")
