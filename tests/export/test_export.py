"""Exported models: what they read, and that they score as the run did, in a process without funrec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

import funrec
from funrec.data.arrays import load_inputs
from funrec.experiment.run import Run
from funrec.export.export import export
from funrec.export.inputs import NULL_ID, NULL_TEXT, describe_inputs, read_inputs
from funrec.fusion.fuse import fuse
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

pytestmark = pytest.mark.slow

FEATURES = (
    "{user: {}, item: {min_count: 2}, x: {kind: numeric}, y: {kind: numeric, fill: 0, quantiles: 8}, "
    "tags: {kind: sequence, max_length: 3, pooling: max}, "
    "read: {kind: sequence, max_length: 4, share_with: item, pooling: attention}, "
    "found: {kind: sequence, column: read, max_length: 4, share_with: item, pooling: transformer, search: item, "
    "search_length: 2}, bucket: {column: item, hash_buckets: 50}, seen: {}}"
)
OVERRIDES = (
    *("trainer=smoke", "model/funnel=esmm", "dataset.group=user", f"dataset.features={FEATURES}"),
    "dataset.tasks={click: {label: click}, buy: {label: buy, after: click}}",
    "dataset.split={by: random, valid: 0.3, calibrate: 0.2}",
    *("calibration=isotonic", "calibration.by=seen", "calibration.least_rows=10", "calibration.least_labels=2"),
)
FORMULA = "p_click^0.4 * p_buy - 0.1 * logit_click"


def log(rows: int = 3000) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    user = draw.integers(0, 60, rows)
    click = draw.random(rows) < 0.3 + 0.01 * user / 2
    return pl.DataFrame(
        {
            "user": user,
            "item": [f"ü{item}" for item in draw.integers(0, 90, rows)],
            "x": draw.normal(size=rows),
            "y": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(size=rows)),
            "tags": [",".join(map(str, draw.integers(0, 9, draw.integers(0, 5)))) for _ in range(rows)],
            "read": [",".join(f"ü{i}" for i in draw.integers(0, 90, draw.integers(0, 5))) for _ in range(rows)],
            "seen": [None if one % 7 == 0 else int(one) for one in draw.integers(0, 30, rows)],
            "click": click.astype(int),
            "buy": (click & (draw.random(rows) < 0.5)).astype(int),
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on every kind of feature, calibrated by the values of one, its heads fused."""
    place = tmp_path_factory.mktemp("exported")
    log().write_parquet(place / "log.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = funrec.run_experiment("mmoe", "dataset=tabular", f"dataset.path={place}/log.parquet", *OVERRIDES)
    fuse(place / done.path, "auc_click", formula=FORMULA)
    return Run(place / done.path, done.record)


@pytest.mark.parametrize("format", ["savedmodel", "onnx", "keras"])
def test_an_exported_model_scores_as_the_run_did(finished: Run, format: str, funrec: Command, tmp_path: Path) -> None:
    if format == "onnx":
        for package in ("tf2onnx", "onnxruntime"):
            pytest.importorskip(package, reason='needs pip install "funrec-lab[onnx]"')
    done = funrec("export", str(finished.path), "--format", format, "-o", str(tmp_path / "out"))
    assert done.code == 0, done.err
    proof = read_json(tmp_path / "out" / "export.json")
    assert proof["largest_difference"] < 1e-4  # an isotonic curve has steep pieces
    assert all(value <= proof["tolerances"][name] for name, value in proof["differences"].items())
    assert set(proof["differences"]) == {"logit_click", "logit_buy", "logit_buy_given_click", "score"}
    assert (proof["calibration"], proof["formula"]) == ("isotonic", FORMULA)
    assert proof["rows_compared"] == (finished.predictions()["split"] == "valid").sum()
    assert f"{proof['largest_difference']:.1e}" in done.out


def test_inputs_are_raw_values_and_say_what_stands_for_a_null(finished: Run) -> None:
    inputs = load_inputs(finished.path / "model")
    kinds = {one.name: (one.kind, one.is_computed) for one in describe_inputs(inputs)}
    assert kinds["user"] == ("id", False)
    assert kinds["item"] == ("text", False)
    assert kinds["bucket"] == ("row", True)
    rows = read_inputs(inputs, log().head(50))
    assert rows["item"][0] == log()["item"][0]
    assert (rows["seen"] == NULL_ID).tolist() == log()["seen"].head(50).is_null().to_list()
    tags = log()["tags"][0].split(",")[:3]
    assert rows["tags"][0].tolist() == [*(tag for tag in tags if tag), *[NULL_TEXT] * (3 - len([t for t in tags if t]))]


def test_a_model_that_scores_differently_is_refused_and_nothing_is_kept(finished: Run, tmp_path: Path) -> None:
    saved = pl.read_parquet(finished.path / "predictions.parquet")
    try:
        saved.with_columns(pl.col("score_buy") + 0.1).write_parquet(finished.path / "predictions.parquet")
        with pytest.raises(InputError, match=r"logit_buy off by 0\.1"):
            export(finished.path, "savedmodel", tmp_path / "out")
    finally:
        saved.write_parquet(finished.path / "predictions.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_overwritten(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should not exist"):
        export(finished.path, "savedmodel", tmp_path)
