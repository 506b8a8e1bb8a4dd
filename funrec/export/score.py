"""Scores rows with an exported model, in a process that does not know funrec: `python score.py MODEL INPUTS OUTPUTS`.

(A `.keras` archive alone needs funrec, whose layers it names.)

INPUTS and OUTPUTS are NumPy archives, an array per input and output. Writes to standard output, as JSON, the
milliseconds that one row and a thousand rows take.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
REPEATS = 20


def load(model: Path, threads: int = 0) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """Return what scores rows with a SavedModel's folder, a `.keras` archive or an ONNX file, the last with so many
    threads; 0 for one per core."""
    if model.is_dir():
        import tensorflow as tf

        loaded = tf.saved_model.load(str(model))
        signature = loaded.signatures["serving_default"]
        signature.loaded = loaded  # its tables live as long as it does
        return lambda rows: {
            name: values.numpy() for name, values in signature(**{k: tf.constant(v) for k, v in rows.items()}).items()
        }
    if model.suffix == ".keras":
        import keras
        import tensorflow as tf

        from funrec.export.archive import ExportedModel

        archive = keras.saving.load_model(model, {"ExportedModel": ExportedModel})
        return lambda rows: {
            name: values.numpy() for name, values in archive({k: tf.constant(v) for k, v in rows.items()}).items()
        }
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options)
    names = [output.name for output in session.get_outputs()]
    read = [given.name for given in session.get_inputs()]

    def score(rows: Arrays) -> dict[str, np.ndarray]:
        given = {name: rows[name].astype(object) if rows[name].dtype.kind == "U" else rows[name] for name in read}
        return dict(zip(names, session.run(None, given), strict=True))

    return score


def milliseconds(score: Callable[[Arrays], object], rows: Arrays) -> float:
    """Return the median time of scoring `rows`."""
    score(rows)
    times = []
    for _ in range(REPEATS):
        clock = time.perf_counter()
        score(rows)
        times.append(1000 * (time.perf_counter() - clock))
    return statistics.median(times)


def main(model: str, inputs: str, outputs: str) -> None:
    """Score and time."""
    with np.load(inputs, allow_pickle=False) as archive:
        rows = dict(archive)
    score = load(Path(model))
    np.savez(outputs, **score(rows))  # type: ignore[arg-type]
    some = {size: {name: values[:size] for name, values in rows.items()} for size in (1, 1000)}
    if "funrec" in sys.modules and not model.endswith(".keras"):
        raise RuntimeError("The exported model should be scored without funrec.")
    sys.stdout.write(json.dumps({str(size): milliseconds(score, part) for size, part in some.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
