"""A finished run's model for other programs, kept only if it scores the run's rows as the run did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from funrec.calibration.base import Fitted
from funrec.config.build import build
from funrec.data.arrays import ModelInputs
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import reading_errors
from funrec.export.inputs import describe_inputs, read_inputs
from funrec.runs import record as records
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import one_line, write_json
from funrec.utils.logging import load_tensorflow

#: By format: what the model is called within the export's folder.
FORMATS = {"savedmodel": "model", "onnx": "model.onnx", "keras": "model.keras"}
PROOF = "export.json"
#: Rows that are compared, and the largest difference of two logits of the model.
ROWS, TOLERANCE = 10_000, 1e-5


def export(run: str | Path, format: str = "savedmodel", output: str | Path | None = None) -> dict[str, Any]:
    """Export a finished run's model, and compare it with the run's saved scores.

    Raw values go in, by feature: ids, text, numbers and lists, with vocabularies and scalers inside the model; hashed
    ids and histories are computed by funrec beforehand. `logit_<head>` and `p_<head>` come out, `value_<task>` for
    regression, and `score` where heads are fused. The exported model scores in a process of its own, without funrec
    but for `keras`.

    Args:
        run: The run's folder.
        format: `savedmodel` (TensorFlow, TensorFlow Serving), `onnx`, or `keras` (Keras with funrec installed).
        output: The folder to make; `export/<format>` in the run's folder if None.

    Returns:
        What `export.json` in that folder says: inputs, outputs, the largest difference, sizes and times.

    Raises:
        InputError: If there is no finished run, its rows cannot be read, the format cannot express the model, or a
            logit differs by more than 1e-5.
    """
    run = Path(run)
    if format not in FORMATS:
        raise InputError(f"The format should be one of {', '.join(FORMATS)}. Received: {format}.")
    target = Path(output) if output else run / "export" / format
    if target.exists():
        raise InputError(f"{target} should not exist. Received: an earlier export. Remove it or choose another folder.")
    record = records.read(run)
    load_tensorflow()
    from funrec.experiment.prediction import Predictor

    predictor = Predictor(run)
    frame, saved = _saved_rows(run, record["config"], predictor.inputs)
    if predictor.inputs.history is None:
        expected = predictor.named(saved, logits=True)
    else:  # rows scored later see a longer history than when the run was evaluated
        expected = predictor.score(predictor.inputs.encode(frame), logits=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=target.parent) as name:
        staged = Path(name) / "export"
        staged.mkdir()
        write_model(format, predictor, record["config"], staged / FORMATS[format])
        outputs, times = _score_elsewhere(staged / FORMATS[format], read_inputs(predictor.inputs, frame))
        differences = {name: _difference(expected[name].to_numpy(), outputs[name], name) for name in expected.columns}
        tolerances = _tolerances(expected.columns, predictor.calibration)
        proof = {
            "run": str(run),
            "label": record["label"],
            "format": format,
            "inputs": [one.to_json() for one in describe_inputs(predictor.inputs)],
            "outputs": sorted(outputs),
            "calibration": None if predictor.calibration is None else predictor.calibration.method,
            "formula": None if predictor.formula is None else predictor.formula.text,
            "rows_compared": frame.height,
            "compared_with": "funrec predict" if predictor.inputs.history is not None else records.PREDICTIONS,
            "largest_difference": max(differences.values()),
            "differences": differences,
            "tolerances": tolerances,
            "bytes": sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()),
            "milliseconds_by_rows": times,
            "versions": record.get("versions"),
        }
        for name, difference in sorted(differences.items(), key=lambda item: -item[1]):
            if not difference <= tolerances[name]:
                raise InputError(
                    f"The exported model should score as the run did, to {tolerances[name]:.2g}. Received: {name} off "
                    f"by {difference:.2g}. Nothing was kept; train with trainer.precision=float32."
                )
        write_json(staged / PROOF, proof)
        staged.rename(target)
    return proof


def _difference(expected: np.ndarray, found: np.ndarray, name: str) -> float:
    """Return the largest difference: of logits as it is, of others relative to the value where that is above 1."""
    scale = 1.0 if name.startswith("logit_") else np.maximum(np.abs(expected), 1.0)
    return float((np.abs(expected - found) / scale).max())


def _tolerances(names: Sequence[str], calibration: Fitted | None) -> dict[str, float]:
    """Return the largest difference by output: a steep curve of a calibration multiplies that of the model's logits."""
    steepest = {} if calibration is None else {task: calibration.steepest(task) for task in calibration.curves}
    worst = max(steepest.values(), default=1.0)
    return {
        name: TOLERANCE * max(1.0, worst if name == "score" else steepest.get(name.partition("_")[2], 1.0))
        for name in names
    }


def write_model(format: str, predictor: Any, config: Mapping[str, Any], place: Path) -> None:
    """Write a predictor's model, of a run of this configuration.

    Raises:
        InputError: If a package is missing, or the format cannot express the model.
    """
    from funrec.export.heads import Heads

    try:
        writer = import_module(f"funrec.export.{'archive' if format == 'keras' else format}")
    except ModuleNotFoundError as error:
        raise InputError(
            f'The format onnx should find {error.name}. It is missing: pip install "funrec-lab[onnx]".'
        ) from None
    try:
        heads = Heads(predictor.model, predictor.calibration, predictor.formula)
        writer.write(heads, predictor.inputs, place, *([config] if format == "keras" else []))
    except Exception as error:  # the converter has no class of its own for what it cannot express
        raise InputError(f"The model cannot be written as {format}: {one_line(error)}.") from error


def _saved_rows(
    run: Path, config: Mapping[str, Any], inputs: ModelInputs
) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Return raw rows of the run's validation split, and their saved scores by head."""
    saved = records.read_predictions(run)
    picked = np.flatnonzero(saved["split"] == "valid")[:ROWS]
    scores = {name.removeprefix("score_"): v[picked] for name, v in saved.items() if name.startswith("score_")}
    dataset = build(config["dataset"], Dataset, "dataset")
    known = dataset.available_columns()
    for column in inputs.columns:
        if known is not None and column not in known:
            raise InputError(f"{dataset.source_name()} should have column {column}.{did_you_mean(column, known)}")
    with TemporaryDirectory() as folder, reading_errors(dataset.source_name):
        scanned = dataset.scan(inputs.columns, Path(folder))
        rows = scanned.get("valid", scanned.get("all"))
        if rows is None:
            raise InputError(f"{dataset.source_name()} should hold the validation rows of {run}. It does not.")
        frame = rows.select(inputs.columns).collect(engine="streaming")
    return frame[saved["row"][picked].astype(np.int64)], scores


def _score_elsewhere(model: Path, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Score and time in a process without funrec."""
    texts = {name: values.astype(str) if values.dtype == object else values for name, values in rows.items()}
    script = Path(__file__).with_name("score.py")
    with TemporaryDirectory() as folder:
        given, scored = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(given, **texts)  # type: ignore[arg-type]
        # -P: modules beside the script have names such as `onnx`.
        command = [sys.executable, "-P", str(script), str(model.resolve()), str(given), str(scored)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise InputError(f"The exported model should load and score. It does not: {last[:300]}")
        with np.load(scored, allow_pickle=False) as archive:
            return dict(archive), json.loads(done.stdout.splitlines()[-1])
