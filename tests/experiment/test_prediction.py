"""`funrec predict` and `Run.predict`: raw rows in, probabilities out, from the run's folder alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from commands import Command

from funrec import InputError, Run, load_run, run_experiment
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.metrics.base import sigmoid
from funrec.runs.formula import FUSION
from funrec.runs.record import read_predictions
from funrec.utils.files import write_json

pytestmark = pytest.mark.slow

SMALL = (
    "trainer=smoke",
    "dataset.rows=12_000",
    "dataset.users=300",
    "dataset.videos=200",
    "dataset.features.tag.kind=sequence",
    "+dataset.features.date={kind: numeric}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of ESMM in a folder of its own, its data's cache gone."""
    folder = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FUNREC_CACHE", str(folder / "cache"))
        done = run_experiment("esmm", *SMALL)
        shutil.rmtree(folder / "cache")
        return load_run(done.path.resolve())


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    dataset = build(compose(SMALL)["dataset"], Dataset, "dataset")
    frame = dataset.generate(0, 12_000)
    return frame.select(name for name in frame.columns if not name.startswith("p_"))


def test_probabilities_equal_those_of_the_run_to_the_last_bit(run: Run, raw: pl.DataFrame) -> None:
    found, saved = run.predict(raw), read_predictions(run.path)
    heads = [name.removeprefix("score_") for name in saved if name.startswith("score_")]
    assert heads == ["is_click", "long_view", "is_like", "long_view_given_is_click", "is_like_given_is_click"]
    assert list(found) == [f"p_{head}" for head in heads]
    for head in heads:
        expected = sigmoid(saved[f"score_{head}"]).astype(np.float32)
        np.testing.assert_array_equal(found[f"p_{head}"].to_numpy()[saved["row"]], expected)


def test_a_fused_score_is_a_column_of_its_own(run: Run, raw: pl.DataFrame, tmp_path: Path) -> None:
    copied = shutil.copytree(run.path, tmp_path / "run")
    write_json(copied / FUSION, {"formula": "p_is_click * p_is_like^0.5 + 0.1 * logit_long_view"})
    few = raw.head(50)
    plain, fused = run.predict(few), load_run(copied).predict(few)
    assert list(fused) == [*plain, "score"]
    click, like, view = (plain[f"p_{task}"].to_numpy(np.float64) for task in ("is_click", "is_like", "long_view"))
    expected = click * np.sqrt(like) + 0.1 * np.log(view / (1 - view))
    np.testing.assert_allclose(fused["score"], expected, rtol=1e-4, atol=1e-5)


def test_a_new_process_gives_the_same_bits(run: Run, raw: pl.DataFrame, tmp_path: Path) -> None:
    raw.write_csv(tmp_path / "rows.csv")
    main = "import sys; from funrec.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", main, "predict", str(run.path), "rows.csv", "-o", "scores.parquet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "scores.parquet: 12,000 rows" in done.stderr
    found = pl.read_parquet(tmp_path / "scores.parquet")
    expected = run.predict(raw)
    assert found.columns == list(expected)
    for name in found.columns:
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name].to_numpy())


def test_a_rows_conversion_is_the_product_of_its_steps(run: Run, raw: pl.DataFrame) -> None:
    found = run.predict(raw)
    np.testing.assert_allclose(found["p_is_like"], found["p_is_click"] * found["p_is_like_given_is_click"], rtol=1e-4)


def test_a_pandas_frame_keeps_its_index_and_columns_may_stand_in_any_order(run: Run, raw: pl.DataFrame) -> None:
    rows = raw.head(50)
    frame = pd.DataFrame({name: rows[name].to_list() for name in reversed(rows.columns)}, index=range(100, 150))
    found = run.predict(frame)
    assert list(found.index) == list(range(100, 150))
    np.testing.assert_array_equal(found.to_numpy(), run.predict(rows).to_numpy())


def test_an_unknown_id_is_the_out_of_vocabulary_row_whatever_it_looks_like(
    run: Run, raw: pl.DataFrame, tmp_path: Path
) -> None:
    rows = raw.head(20).with_columns(video_id=pl.lit(987_654_321))
    expected = run.predict(rows)
    assert (expected["p_is_click"].to_numpy() != run.predict(raw.head(20))["p_is_click"].to_numpy()).any()
    rows.with_columns(video_id=pl.lit("never seen")).write_csv(tmp_path / "rows.csv")
    run.predictor.score_file(str(tmp_path / "rows.csv"), tmp_path / "scores.csv")
    np.testing.assert_allclose(pl.read_csv(tmp_path / "scores.csv").to_numpy(), expected.to_numpy(), rtol=1e-6)


def test_files_of_either_kind_are_scored_in_order_whole(run: Run, raw: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    raw.head(7_000).write_parquet(tmp_path / "parts" / "1.parquet")
    raw.slice(7_000).write_parquet(tmp_path / "parts" / "2.parquet")
    assert run.predictor.score_file(str(tmp_path / "parts"), tmp_path / "scores.parquet") == 12_000
    found = pl.read_parquet(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(found.to_numpy(), run.predict(raw).to_numpy())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["parts", "scores.parquet"]


def test_the_model_can_be_had(run: Run) -> None:
    model = run.model()
    assert model.funnel.towers == ("is_click", "long_view_given_is_click", "is_like_given_is_click")
    assert model.count_params() == run.predictor.model.count_params() > 0


def test_a_regression_gives_values(workdir: Path) -> None:
    done = run_experiment(
        "mmoe", "dataset=synthetic_pair", "dataset.rows=3_000", "trainer=smoke", "trainer.monitor=null"
    )
    dataset = build(done.record["config"]["dataset"], Dataset, "dataset")
    rows = dataset.generate(0, 3_000)
    found, saved = done.predict(rows), read_predictions(done.path)
    assert list(found) == ["value_y1", "value_y2"]
    np.testing.assert_array_equal(found["value_y1"].to_numpy()[saved["row"]], saved["score_y1"])


def test_what_cannot_be_scored_is_one_line(run: Run, raw: pl.DataFrame, funrec: Command, workdir: Path) -> None:
    raw.drop("tag").rename({"user_id": "userid"}).write_csv("rows.csv")
    raw.with_columns(date=pl.lit("soon")).write_csv("words.csv")
    raw.write_csv("good.csv")
    cases = {
        ("rows.csv", "scores.parquet"): "Rows should have column user_id, .*Did you mean userid?",
        ("none.csv", "scores.parquet"): "no such file: none.csv",
        ("words.csv", "scores.parquet"): "dataset.features.date should be a finite number .*Received: 'soon'",
        ("good.csv", "scores.txt"): "The output should be a file of kind .parquet, .csv. Received: scores.txt",
    }
    for (source, target), message in cases.items():
        done = funrec("predict", str(run.path), source, "-o", target)
        assert done.code == 2
        assert done.err.count("\n") == 1 and done.err.startswith("funrec: ")
        assert all(part in done.err for part in message.split(".*")), done.err
        assert not Path(target).exists()
    done = funrec("predict", "nowhere", "good.csv", "-o", "scores.parquet")
    assert done.code == 2
    assert "nowhere should be a finished run" in done.err


def test_a_frame_without_rows_has_scores_without_rows(run: Run, raw: pl.DataFrame) -> None:
    assert list(run.predict(raw.head(0)).columns) == list(run.predict(raw.head(1)).columns)
    assert len(run.predict(raw.head(0))) == 0


def test_a_frame_without_a_column_is_refused(run: Run, raw: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=r"^Rows should have column tab, which feature tab is read from\."):
        run.predict(raw.drop("tab"))


def test_columns_are_kept_as_they_stand_and_scores_may_be_logits(
    run: Run, raw: pl.DataFrame, funrec: Command, workdir: Path
) -> None:
    rows = raw.head(300).with_columns(note=pl.format("{}", pl.int_range(300)).str.zfill(5))
    rows.write_csv("rows.csv")
    done = funrec("predict", str(run.path), "rows.csv", "-o", "scores.parquet", "--keep", "note,video_id", "--logits")
    assert done.code == 0 and "logits: logit_is_click, logit_long_view" in done.err
    found = pl.read_parquet("scores.parquet")
    assert found.columns[:3] == ["note", "video_id", "logit_is_click"]
    assert found["note"].to_list() == rows["note"].to_list()
    assert found["video_id"].cast(pl.Int64).to_list() == rows["video_id"].to_list()
    np.testing.assert_allclose(sigmoid(found["logit_is_click"].to_numpy()), run.predict(rows)["p_is_click"], rtol=1e-5)


def test_rows_are_never_overwritten_by_their_scores(
    run: Run, raw: pl.DataFrame, funrec: Command, workdir: Path
) -> None:
    Path("parts").mkdir()
    for name in ("rows.csv", "parts/1.csv", "parts/2.csv"):
        raw.head(50).write_csv(name)
    Path("link.csv").symlink_to("rows.csv")
    before = {path: path.read_bytes() for path in workdir.rglob("*.csv")}
    for source, target in (
        ("rows.csv", "rows.csv"),
        ("rows.csv", "parts/../rows.csv"),
        ("rows.csv", "link.csv"),
        ("parts", "parts/2.csv"),
        ("parts", "parts/new.csv"),
        ("parts/*.csv", "parts/1.csv"),
        ("parts/*.csv", "parts/new.csv"),
    ):
        done = funrec("predict", str(run.path), source, "-o", target)
        assert done.code == 2
        assert done.err == f"funrec: The output should not be among the rows to score, {source}. Received: {target}.\n"
    assert {path: path.read_bytes() for path in workdir.rglob("*.csv")} == before
    done = funrec("predict", str(run.path), "rows.csv", "-o", "scores.csv", "--keep", "vidoe_id")
    assert done.code == 2 and "--keep: no such column vidoe_id. Did you mean video_id?" in done.err
