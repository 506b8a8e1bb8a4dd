"""Permutation importance on rows whose labels one feature alone decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

import funrec
from funrec.experiment.run import Run

pytestmark = pytest.mark.slow

OVERRIDES = (
    *("trainer.epochs=3", "trainer.batch_size=256", "dataset.group=user", "dataset.split={by: random, valid: 0.3}"),
    "dataset.features={user: {}, cause: {}, noise: {}, number: {kind: numeric}}",
    "dataset.tasks={click: {label: click}}",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place, draw = tmp_path_factory.mktemp("explained"), np.random.default_rng(0)
    cause = draw.integers(0, 4, 6000)
    columns = {"user": draw.integers(0, 200, 6000), "cause": cause, "noise": draw.integers(0, 4, 6000)}
    click = draw.random(6000) < np.array([0.1, 0.3, 0.6, 0.9])[cause]
    log = pl.DataFrame({**columns, "number": draw.normal(size=6000), "click": click.astype(int)})
    log.write_parquet(place / "log.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = funrec.run_experiment("logistic", "dataset=tabular", f"dataset.path={place}/log.parquet", *OVERRIDES)
    return Run(place / done.path, done.record)


def test_the_feature_that_decides_is_found_and_the_others_are_within_noise(
    finished: Run, funrec: Command, tmp_path: Path
) -> None:
    done = funrec("explain", str(finished.path), "--group", "rest=noise,number", "-o", str(tmp_path / "table.csv"))
    assert done.code == 0, done.err
    table = {row["feature"]: row for row in pl.read_csv(tmp_path / "table.csv").to_dicts()}
    assert set(table) == {"user", "cause", "noise", "number", "rest"}
    assert done.out.splitlines()[2].split()[:2] == ["click", "cause"]
    assert table["cause"]["low"] > 0.2
    # All of what the model knows is in the cause: without it the AUC is that of chance.
    assert table["cause"]["importance"] == pytest.approx(finished.metrics["auc_click"] - 0.5, abs=0.04)
    for name in ("noise", "rest"):
        assert table[name]["low"] < 0.01
        assert abs(table[name]["importance"]) < 0.02


def test_an_unknown_feature_of_a_group_is_refused(finished: Run, funrec: Command) -> None:
    done = funrec("explain", str(finished.path), "--group", "ids=usr")
    assert (done.code, done.err) == (2, "funrec: --group: no such feature usr. Did you mean user?\n")


def test_a_group_without_features_is_refused(finished: Run, funrec: Command) -> None:
    done = funrec("explain", str(finished.path), "--group", "user")
    assert (done.code, done.err) == (
        2,
        "funrec: --group should be a name and features, as in ids=user_id,tag. Received: user.\n",
    )


def test_a_run_gives_its_metrics_as_rows_and_its_curves_as_a_figure(finished: Run) -> None:
    frame = finished.metrics_frame().set_index(["metric", "task", "split"])["value"]
    assert frame["auc", "click", "valid"] == finished.metrics["auc_click"]
    assert frame["gauc", "macro", "valid"] == finished.metrics["gauc_macro"]
    pytest.importorskip("plotly", reason='needs pip install "funrec-lab[report]"')
    figure = finished.plot()
    panels = {annotation.text for annotation in figure.layout.annotations}
    assert {"metric=loss", "metric=auc", "metric=gauc"} <= panels
    assert list(figure.data[0].x) == finished.history()["epoch"].tolist()


def test_embeddings_have_a_row_per_value(finished: Run, funrec: Command, tmp_path: Path) -> None:
    done = funrec("export", str(finished.path), "--format", "embeddings", "-o", str(tmp_path / "out"))
    assert done.code == 0, done.err
    causes = pl.read_parquet(tmp_path / "out" / "cause.parquet").sort("key")
    assert causes["key"].to_list() == [0, 1, 2, 3]
    assert causes["count"].sum() == 6000 - len(finished.predictions())
    weights = causes["embedding"].to_numpy()[:, 0]
    assert (np.diff(weights) > 0).all()  # logistic's one weight grows with the rate


def test_a_protocol_refuses_other_rows(funrec: Command, finished: Run, tmp_path: Path) -> None:
    path = finished.record["config"]["dataset"]["path"]
    rows = len(finished.predictions())
    overrides = ["dataset=tabular", f"dataset.path={path}", "model=logistic", "trainer.epochs=1", *OVERRIDES[2:]]
    run = f"hydra.run.dir={tmp_path}/run"
    protocol = f"++protocol={{name: mine, rows: {{train: {6000 - rows}, valid: {rows + 1}}}}}"
    done = funrec("run", *overrides, run, protocol)
    assert done.code == 2
    assert f"protocol=mine should have {rows + 1:,} rows in the split valid. Received: {rows:,}." in done.err
