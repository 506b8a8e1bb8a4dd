"""One run, from Python: what it leaves behind, what it leaves alone, and that it can be had again to the last digit."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf

import funrec
from funrec.experiment.run import Run
from funrec.metrics import auc, group_auc
from funrec.runs.folder import status

pytestmark = pytest.mark.slow

SMALL = ("dataset.rows=3000", "trainer=smoke")
#: Two epochs in two shards, weights averaged, dropout, a linear term and penalties: all that draws or adds up.
RICH = (*SMALL, "trainer.epochs=2", "trainer.average_steps=4", "model/wide=linear", "model.embedding_l2=1")
TASKS = ("is_click", "long_view", "is_like")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def finished(place: Path) -> Run:
    """One run that many tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = funrec.run_experiment("mmoe", *RICH)
    return Run(place / run.path, run.record)


# What it leaves


def test_a_run_has_its_metrics_its_table_and_its_folder(finished: Run) -> None:
    assert finished.path.parent.parts[-2:] == ("outputs", "runs")
    assert 0.5 < finished.metrics["auc_is_click"] < 1
    assert "auc_is_click" in finished.table()
    assert finished.table().splitlines()[3].startswith("| mmoe ")
    assert finished.table().splitlines()[5].startswith("| oracle ")
    assert finished.table() in repr(finished)


def test_a_loaded_run_is_the_run(finished: Run) -> None:
    loaded = funrec.load_run(finished.path)
    assert loaded.record == json.loads((finished.path / "record.json").read_text())
    assert loaded.metrics == finished.metrics
    assert loaded.table() == finished.table()


def test_loading_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(funrec.InputError, match="should be a finished run"):
        funrec.load_run(tmp_path)


def test_the_record_says_what_ran_on_what_and_how_well(finished: Run) -> None:
    record = finished.record
    assert (record["label"], record["backbone"], record["funnel"]) == ("mmoe + linear", "mmoe", "independent")
    assert record["overrides"] == ["model=mmoe", *RICH]
    assert record["config"]["dataset"]["rows"] == 3000
    assert record["seed"] == 0
    assert record["tasks"] == list(TASKS)
    assert record["started"] < record["finished"]
    assert set(record["seconds"]) >= {"prepare", "build", "train", "evaluate"}
    assert record["rows_per_second"] > 0
    assert record["best_epoch"] in (1, 2)
    assert record["selected_on"] == "valid"
    assert set(record["row_fingerprint"]) == {"valid"}
    assert {"python", "tensorflow", "keras", "polars"} <= set(record["versions"])
    assert record["source_hash"]
    assert set(record["metrics"]) >= {f"{m}_{t}" for m in ("auc", "gauc", "val_user", "log_loss", "ece") for t in TASKS}
    assert status(finished.path).state == "finished"


def test_the_folder_holds_all_that_a_run_leaves(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert names >= {".hydra", "funrec.log", "history.parquet", "predictions.parquet", "model", "record.json"}
    assert not [name for name in names if "tmp" in name or "unfinished" in name]
    saved = OmegaConf.to_container(OmegaConf.load(finished.path / ".hydra" / "config.yaml"))
    assert saved.items() >= finished.record["config"].items()
    assert "epoch 2: " in (finished.path / "funrec.log").read_text()


def test_history_has_a_row_per_epoch(finished: Run) -> None:
    history = finished.history()
    assert list(history["epoch"]) == [1, 2]
    for task in TASKS:
        assert history[f"loss_{task}"].iloc[1] < history[f"loss_{task}"].iloc[0]
        assert (history[f"weight_{task}"] == 1).all()
    best = history["auc_macro"].max()
    assert best == pytest.approx(finished.metrics["auc_macro"], abs=1e-12)
    assert history["epoch"][history["auc_macro"].idxmax()] == finished.record["best_epoch"]


def test_metrics_follow_from_the_saved_predictions(finished: Run) -> None:
    rows = finished.predictions()
    assert set(rows["split"]) == {"valid"}
    assert len(rows) == pytest.approx(600, abs=100)  # two days of ten
    for task in TASKS:
        labels, scores = rows[f"label_{task}"].to_numpy(), rows[f"score_{task}"].to_numpy()
        users = group_auc(rows["group"].to_numpy(), labels, scores)
        assert auc(labels, scores) == pytest.approx(finished.metrics[f"auc_{task}"], abs=1e-12)
        assert users.value == pytest.approx(finished.metrics[f"gauc_{task}"], abs=1e-12)
        assert users.groups == finished.metrics[f"val_user_{task}"]
        assert (1 / (1 + np.exp(-scores))).sum() / labels.sum() == pytest.approx(
            finished.metrics[f"ratio_{task}"], rel=1e-5
        )


def test_no_model_beats_the_oracle_beyond_noise(finished: Run) -> None:
    for task in ("is_click", "long_view"):
        assert finished.oracle is not None
        assert finished.oracle[f"auc_{task}"] > finished.metrics[f"auc_{task}"]


# What it leaves alone


def test_a_caller_keeps_logging_folder_and_hydra(in_place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("answer: 42\n")
    root, ours = logging.getLogger(), logging.getLogger("funrec")

    def state() -> list[Any]:
        found: list[Any] = [os.getcwd(), logging.raiseExceptions, sys.argv[:]]
        return found + [
            (logger.level, logger.propagate, logger.handlers[:], logger.disabled) for logger in (root, ours)
        ]

    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        before = state()
        funrec.run_experiment("logistic", *SMALL)
        assert state() == before
        with pytest.raises(funrec.InputError):
            funrec.run_experiment("logistic", *SMALL, "model.backbone.scale=0")
        assert state() == before
        assert compose("mine").answer == 42


def test_nothing_is_said_unless_asked_for(in_place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    funrec.run_experiment("logistic", *SMALL)
    assert capfd.readouterr() == ("", "")
    funrec.run_experiment("logistic", *SMALL, verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("epoch 1: ")


def test_a_run_that_fails_says_why_in_its_folder_and_is_no_record(in_place: Path) -> None:
    before = set((in_place / "outputs" / "runs").glob("*"))
    with pytest.raises(funrec.InputError):
        funrec.run_experiment("logistic", *SMALL, "model.backbone.scale=0")
    (folder,) = set((in_place / "outputs" / "runs").glob("*")) - before
    assert status(folder).state == "failed"
    assert "model.backbone.scale should be a positive number" in status(folder).reason
    assert "Traceback" in (folder / "funrec.log").read_text()
    assert not (folder / "record.json").exists()


# That it can be had again


def test_the_same_seed_gives_the_same_table_to_the_last_digit(finished: Run, in_place: Path) -> None:
    again = funrec.run_experiment("mmoe", *RICH)
    assert again.path.name != finished.path.name
    assert again.metrics == finished.metrics
    np.testing.assert_array_equal(again.predictions()["score_is_like"], finished.predictions()["score_is_like"])


def test_another_seed_gives_another_table_on_the_same_rows(finished: Run, in_place: Path) -> None:
    other = funrec.run_experiment("mmoe", *RICH, "seed=1")
    assert other.metrics["auc_is_click"] != finished.metrics["auc_is_click"]
    assert other.record["row_fingerprint"] == finished.record["row_fingerprint"]
    assert other.record["data_fingerprint"] == finished.record["data_fingerprint"]


def test_another_process_with_other_threads_gives_the_same_table(finished: Run, in_place: Path) -> None:
    threads = 4 if os.environ.get("TF_NUM_INTRAOP_THREADS") == "1" else 1
    code = f"""
import json, sys
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads({threads})
tf.config.threading.set_inter_op_parallelism_threads({threads})
import funrec
print(json.dumps(funrec.run_experiment("mmoe", *{RICH!r}).metrics))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == finished.metrics


# That tasks stay apart


def _reversed(*tasks: str) -> list[str]:
    spelled = {
        "is_click": "{label: is_click, after: null}",
        "long_view": "{label: long_view, after: is_click}",
        "is_like": "{label: is_like, after: is_click}",
    }
    return [f"~dataset.tasks.{task}" for task in TASKS] + [f"+dataset.tasks.{task}={spelled[task]}" for task in tasks]


def test_the_order_of_tasks_changes_no_number_of_a_logistic_regression(in_place: Path) -> None:
    """It starts at zero and draws nothing, so that not even noise is left."""
    first = funrec.run_experiment("logistic", *SMALL)
    other = funrec.run_experiment("logistic", *SMALL, *_reversed(*TASKS[::-1]))
    assert other.record["tasks"] == list(TASKS[::-1])
    assert other.metrics.keys() == first.metrics.keys()
    for name, value in first.metrics.items():
        assert other.metrics[name] == pytest.approx(value, abs=1e-4), name
    assert first.table().splitlines()[1] == other.table().splitlines()[1]


def test_the_order_of_tasks_changes_an_mmoe_by_noise_alone(in_place: Path) -> None:
    """Tasks are far apart here: a head under another's name would show as .1 and more."""
    planted = ("dataset.rows=20000", "trainer=smoke", "dataset.tasks.is_like.label='is_click = 0'")
    first = funrec.run_experiment("mmoe", *planted)
    swapped = [text.replace("label: is_like", 'label: "is_click = 0"') for text in _reversed(*TASKS[::-1])]
    other = funrec.run_experiment("mmoe", *planted[:2], *swapped)
    for task in TASKS:
        assert first.metrics[f"auc_{task}"] > 0.65
        assert other.metrics[f"auc_{task}"] == pytest.approx(first.metrics[f"auc_{task}"], abs=0.03)
    rows = other.predictions()
    assert np.corrcoef(rows["score_is_click"], rows["score_is_like"])[0, 1] < -0.9


# What the data asks for


def deviation_of_ratio(probabilities: NDArray[np.float64]) -> float:
    return float(np.sqrt((probabilities * (1 - probabilities)).sum()) / probabilities.sum())


@pytest.mark.parametrize("task", ["is_click", "is_like"], ids=["a root", "a nested task"])
def test_downsampled_negatives_are_put_right(task: str, in_place: Path) -> None:
    """Predicted over observed is 1 to within 4 deviations of the validation labels' sum, and a share for the fit."""
    rate = 0.2
    overrides = ("dataset.rows=20000", "trainer=smoke", f"dataset.downsample={{task: {task}, rate: {rate}}}")
    run = funrec.run_experiment("logistic", *overrides)
    rows = run.predictions()
    for name in TASKS:
        probabilities = 1 / (1 + np.exp(-rows[f"score_{name}"].to_numpy(np.float64)))
        margin = 4 * deviation_of_ratio(probabilities) + 0.1
        assert run.metrics[f"ratio_{name}"] == pytest.approx(1, abs=margin), name
        assert 1 / rate > 1 + 2 * margin  # uncorrected, it would be near 1 / rate for a rare task


def test_regression_tasks_have_an_error_instead_of_an_auc(in_place: Path) -> None:
    run = funrec.run_experiment(
        "shared_bottom", "dataset=synthetic_pair", "dataset.rows=3000", "trainer=smoke", "trainer.monitor=null"
    )
    assert {"rmse_y1", "rmse_y2"} <= set(run.metrics)
    assert not [name for name in run.metrics if name.startswith("auc")]
    assert "rmse_y1" in run.table()
    assert run.record["selected_on"] is None
    rows = run.predictions()
    error = math.sqrt(((rows["label_y1"] - rows["score_y1"]) ** 2).mean())
    assert run.metrics["rmse_y1"] == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("adagrad", 0.5)])
def test_keras_optimizers_train_too(optimizer: str, rate: float, in_place: Path) -> None:
    run = funrec.run_experiment("mmoe", *SMALL, f"optimizer={optimizer}", f"optimizer.learning_rate={rate}")
    assert run.metrics["auc_is_click"] > 0.55


def test_bfloat16_trains_too(in_place: Path) -> None:
    run = funrec.run_experiment("mmoe", *SMALL, "trainer.precision=mixed_bfloat16", "model.batch_normalization=true")
    assert run.metrics["auc_is_click"] > 0.55
