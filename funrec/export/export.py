"""A finished run's model for other programs, kept only if it scores the run's rows as the run did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

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
FORMATS = {"savedmodel": "model", "onnx": "model.onnx"}
PROOF = "export.json"
#: Rows that are compared, and the largest difference of two logits.
ROWS, TOLERANCE = 10_000, 1e-5


def export(run: str | Path, format: str = "savedmodel", output: str | Path | None = None) -> dict[str, Any]:
    """Export a finished run's model, and compare it with the run's saved scores.

    Raw values go in, by feature: ids, text, numbers and lists, with vocabularies and scalers inside the model; hashed
    ids and histories are computed by funrec beforehand. `logit_<head>` and `p_<head>` come out, `value_<task>` for
    regression. The exported model scores in a process of its own, without funrec.

    Args:
        run: The run's folder.
        format: `savedmodel` (TensorFlow, TensorFlow Serving) or `onnx`.
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
    lines = {} if predictor.calibration is None else predictor.calibration.lines
    if lines is None:
        raise InputError(
            f"A run to export should be calibrated by platt for all rows, or not at all. Received: {run}, which is by "
            "isotonic or by a feature. Apply model/calibration.json to the exported logits, or use funrec predict."
        )
    frame, saved = _saved_rows(run, record["config"], predictor.inputs)
    expected = {f"score_{head}": values for head, values in saved.items()}
    if predictor.inputs.history is not None:  # rows scored later see a longer history than when the run was evaluated
        scored = predictor.score(predictor.inputs.encode(frame), logits=True)
        expected = {f"score_{name.partition('_')[2]}": scored[name].to_numpy() for name in scored.columns}
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=target.parent) as name:
        staged = Path(name) / "export"
        staged.mkdir()
        _write(format, predictor, staged / FORMATS[format], lines)
        outputs, times = _score_elsewhere(staged / FORMATS[format], read_inputs(predictor.inputs, frame))
        differences = {
            head: float(np.abs(expected[f"score_{head.partition('_')[2]}"] - outputs[head]).max())
            for head in outputs
            if not head.startswith("p_")
        }
        proof = {
            "run": str(run),
            "label": record["label"],
            "format": format,
            "inputs": [one.to_json() for one in describe_inputs(predictor.inputs)],
            "outputs": sorted(outputs),
            "rows_compared": frame.height,
            "compared_with": "funrec predict" if predictor.inputs.history is not None else records.PREDICTIONS,
            "largest_difference": max(differences.values()),
            "differences": differences,
            "bytes": sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()),
            "milliseconds_by_rows": times,
            "versions": record.get("versions"),
        }
        if not proof["largest_difference"] <= TOLERANCE:
            worst = max(differences, key=differences.__getitem__)
            raise InputError(
                f"The exported model should score as the run did, to {TOLERANCE:g}. Received: {worst} off by "
                f"{differences[worst]:.2g}. Nothing was kept; train with trainer.precision=float32."
            )
        write_json(staged / PROOF, proof)
        staged.rename(target)
    return proof


def _write(format: str, predictor: Any, place: Path, lines: Mapping[str, tuple[float, float]]) -> None:
    try:
        if format == "onnx":
            from funrec.export import onnx as writer
        else:
            from funrec.export import savedmodel as writer  # type: ignore[no-redef]
    except ModuleNotFoundError as error:
        raise InputError(
            f'The format onnx should find {error.name}. It is missing: pip install "funrec-lab[onnx]".'
        ) from None
    try:
        writer.write(predictor.model, predictor.inputs, place, lines)
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
            raise InputError(f"The exported model should load and score. It does not: {last}")
        with np.load(scored, allow_pickle=False) as archive:
            return dict(archive), json.loads(done.stdout.splitlines()[-1])
