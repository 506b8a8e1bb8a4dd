"""Exported models: what they read, and that they score as the run did, in a process without funrec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import polars as pl
import pytest
import tensorflow as tf
from commands import Command
from exported import FORMULA, log

from funrec.data.arrays import load_inputs
from funrec.experiment.run import Run
from funrec.export.archive import ExportedModel
from funrec.export.export import export
from funrec.export.inputs import NULL_ID, NULL_TEXT, describe_inputs, read_inputs
from funrec.utils.errors import InputError
from funrec.utils.files import read_json

pytestmark = pytest.mark.slow


def check_proof(proof: dict[str, Any], finished: Run) -> None:
    assert proof["largest_difference"] < 1e-4  # an isotonic curve has steep pieces
    assert all(value <= proof["tolerances"][name] for name, value in proof["differences"].items())
    assert set(proof["differences"]) == {"logit_click", "logit_buy", "logit_buy_given_click", "score"}
    assert (proof["calibration"], proof["formula"]) == ("isotonic", FORMULA)
    assert proof["rows_compared"] == (finished.predictions()["split"] == "valid").sum()


@pytest.mark.parametrize("format", ["savedmodel", "keras"])
def test_an_exported_model_scores_as_the_run_did(finished: Run, format: str, funrec: Command, tmp_path: Path) -> None:
    done = funrec("export", str(finished.path), "--format", format, "-o", str(tmp_path / "out"))
    assert done.code == 0, done.err
    proof = read_json(tmp_path / "out" / "export.json")
    check_proof(proof, finished)
    assert f"{proof['largest_difference']:.1e}" in done.out
    raw = read_inputs(load_inputs(finished.path / "model"), log().head(8))
    given = {name: tf.constant(values) for name, values in raw.items()}
    if format == "savedmodel":  # for Keras without funrec
        model = keras.layers.TFSMLayer(tmp_path / "out" / "model", call_endpoint="score", dtype="float64")
    else:
        model = keras.saving.load_model(tmp_path / "out" / "model.keras", {"ExportedModel": ExportedModel})
        assert model.trainable_variables and "load_model" in (tmp_path / "out" / "README.md").read_text()
    assert sorted(model(given)) == proof["outputs"]


def test_an_onnx_file_scores_as_the_run_did(exported: Run) -> None:
    check_proof(read_json(exported.path / "export" / "onnx" / "export.json"), exported)


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
