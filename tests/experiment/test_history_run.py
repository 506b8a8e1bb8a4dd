"""A run whose features are histories: it trains on them, and predicts for new rows from its folder alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tables import log_table

from funrec import InputError, Run, load_run, run_experiment
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

pytestmark = pytest.mark.slow

FEATURES = (
    "user: {}, item: {}, rate: {kind: history, by: [user], rate: click}, n: {kind: history, by: item, count: true}, "
    "recent: {kind: history, by: user, last: 5, of: [item, price], ago: true, where: 'click = 1', "
    "share_with: [item, null], pooling: attention, target: item}, "
    "found: {kind: history, by: user, last: 40, of: item, share_with: item, search: item, pooling: transformer}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    log_table(2_000).write_csv(folder / "log.csv")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """A finished run in a folder of its own, its data's cache gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FUNREC_CACHE", str(folder / "cache"))
        done = run_experiment(
            "mmoe",
            *("dataset=tabular", f"dataset.path={folder / 'log.csv'}", "dataset.group=user", "dataset.time=day"),
            *("dataset.split.by=time", "dataset.split.column=day", "dataset.split.valid_from=20220508"),
            *("dataset.split.valid=null", f"+dataset.features={{{FEATURES}}}", "+dataset.tasks={click: {}, buy: {}}"),
            *("dataset.history.until=train_end", "trainer=smoke"),
        )
        shutil.rmtree(folder / "cache")
        return load_run(done.path.resolve())


def test_the_record_says_how_histories_look_back(run: Run) -> None:
    assert run.record["config"]["dataset"]["history"]["until"] == "train_end"


def test_new_rows_get_the_scores_that_validation_rows_got(run: Run, folder: Path) -> None:
    saved = read_predictions(run.path)
    rows = pl.read_csv(folder / "log.csv")[saved["row"]].select("day", "user", "item")
    expected = sigmoid(saved["score_click"]).astype(np.float32)
    np.testing.assert_array_equal(run.predict(rows)["p_click"].to_numpy(), expected)
    assert len(np.unique(expected)) > 100


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_of_new_rows_gets_them_too(
    run: Run, folder: Path, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from funrec.experiment import prediction

    monkeypatch.setattr(prediction, "ROWS_PER_BATCH", 97)
    saved = read_predictions(run.path)
    rows = pl.read_csv(folder / "log.csv")[saved["row"]].select("user", "day", "item", "price")
    source = tmp_path / f"rows.{suffix}"
    rows.write_csv(source) if suffix == "csv" else rows.write_parquet(source)
    predictor = prediction.Predictor(run.path)
    assert predictor.score_file(str(source), tmp_path / "scores.parquet") == rows.height
    found = pl.read_parquet(tmp_path / "scores.parquet")["p_click"].to_numpy()
    np.testing.assert_allclose(found, sigmoid(saved["score_click"]), rtol=1e-5)


def test_a_run_frozen_at_the_end_of_training_takes_no_newer_log(run: Run, folder: Path) -> None:
    with pytest.raises(InputError, match=r"a run with dataset\.history\.until=row"):
        run.predictor.move_on(str(folder / "log.csv"))


def test_where_users_drift_history_gets_at_least_half_of_the_way_to_the_true_probabilities(workdir: Path) -> None:
    setting = [
        *("model=shared_bottom", "dataset.drift=0.05", "dataset.taste_strength=0", "dataset.drop=[long_view,is_like]"),
        *("dataset.rows=90000", "dataset.users=15", "dataset.videos=50", "dataset.days=60"),
        *("trainer.epochs=3", "trainer.monitor=null"),
    ]
    rate = "{{kind: history, by: [user_id], rate: is_click, smoothing: 5, window: {}}}"
    lately = [f"+dataset.features.{name}={rate.format(name[1:])}" for name in ("d1d", "d3d")]
    ids, history = run_experiment(*setting), run_experiment(*setting, *lately)
    oracle = ids.record["oracle"]["auc_is_click"]
    assert history.metrics["auc_is_click"] - ids.metrics["auc_is_click"] > 0.5 * (oracle - ids.metrics["auc_is_click"])
