"""From a finished run and raw rows to probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from funrec.data.arrays import SplitArrays
from funrec.data.datasets.files import PARQUET, file_kind, find_files, reading_errors, scan_files
from funrec.data.features.encoding import missing_column
from funrec.data.inputs import ModelInputs, load_inputs
from funrec.experiment.fitting import build_model
from funrec.metrics.base import sigmoid
from funrec.models.model import MultiTaskModel
from funrec.runs import record as records
from funrec.training.checkpoints import load_weights
from funrec.training.scoring import Scorer
from funrec.utils.errors import InputError
from funrec.utils.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ROWS_PER_BATCH = 1 << 17
MODEL = "model"
OUTPUTS = (".parquet", ".csv")


def load_model(run: Path) -> MultiTaskModel:
    """Return a finished run's model with the weights of its best epoch.

    Raises:
        InputError: If there is no finished run, or its model is missing.
    """
    return _load_model(records.read(run)["config"], run, load_inputs(run / MODEL))


def _load_model(config: dict[str, Any], run: Path, inputs: ModelInputs) -> MultiTaskModel:
    model = build_model(config["model"], inputs.tasks, inputs.layout, config["trainer"]["precision"])
    model.initialise(config["seed"])
    load_weights(model, run / MODEL)
    return model


class Predictor:
    """Scores raw rows with a finished run's model.

    A row needs the raw columns that the features are read from, as the data set's own files have them; others are
    ignored. An id that training did not see goes to the out-of-vocabulary row.

    Args:
        run: The run's folder, which is all that is needed: neither the data set nor its cache are looked at.

    Raises:
        InputError: If there is no finished run, or its model is missing.
    """

    def __init__(self, run: Path) -> None:
        config = records.read(run)["config"]
        self.inputs = load_inputs(run / MODEL)
        self.model = _load_model(config, run, self.inputs)
        self._scorer = Scorer(self.model, config["trainer"]["eval_batch_size"])
        self._values = {task.name for task in self.inputs.tasks if task.kind == "regression"}
        self._null_values = config["dataset"].get("null_values") or ()
        self._separator = config["dataset"].get("separator")
        one_row = self.model.layout.empty_batch(rows=1)
        self.columns = [self._column(head) for head in self.model.scores(self.model(one_row))]

    def _column(self, head: str) -> str:
        return f"value_{head}" if head in self._values else f"p_{head}"

    def score(self, rows: SplitArrays) -> pl.DataFrame:
        """Return a float32 column per head: `p_<head>` for probabilities, `value_<task>` for regression."""
        scores = self._scorer.score(rows)
        return pl.DataFrame(
            {self._column(head): values if head in self._values else sigmoid(values) for head, values in scores.items()}
        ).cast(pl.Float32)

    def score_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the scores of raw rows, in their order.

        Raises:
            InputError: If a feature's column is missing, or a number is none.
        """
        return self.score(self.inputs.encode(frame))

    def score_file(self, source: str, target: Path) -> int:
        """Score the rows of a file, a folder or a glob, in their order, and return how many there are.

        Rows are streamed, and the next are read and encoded while the present ones are scored, so the memory taken
        does not grow with their number. Text is first copied, its needed columns alone, to a file beside `target`.

        Args:
            source: CSV, TSV (either also compressed) or Parquet.
            target: A `.parquet` or `.csv` file; it appears whole or not at all.

        Raises:
            InputError: If a file is missing or cannot be read or written, or a feature's column is missing.
        """
        if target.suffix not in OUTPUTS:
            raise InputError(f"The output should be a file of kind {', '.join(OUTPUTS)}. Received: {target}.")
        files = find_files("FILE", source, None)
        # Text stays text: a value that is no number is an unknown id then, and not an unreadable file.
        dtypes = dict.fromkeys(self.inputs.columns, pl.String)
        with reading_errors(lambda: files[0].name):
            rows = scan_files(files, self._separator, dtypes, self._null_values)
            names = rows.collect_schema().names()
            for encoder in self.inputs.encoders.values():
                if encoder.feature.column not in names:
                    raise missing_column(encoder.feature, names)
            rows = rows.select(self.inputs.columns)
        failures: list[Exception] = []
        count = 0

        def scored(*_: Any) -> Iterator[pl.DataFrame]:
            nonlocal count
            try:
                for arrays in _encode_ahead(rows, self.inputs):
                    count += len(arrays)
                    yield self.score(arrays)
            except Exception as error:  # Polars would wrap it
                failures.append(error)

        schema = dict.fromkeys(self.columns, pl.Float32)
        with (
            reading_errors(lambda: files[0].name),
            replacing(target) as temporary,
            TemporaryDirectory(prefix=".funrec-", dir=target.parent) as folder,
        ):
            if file_kind(files[0]) not in PARQUET:  # text has no places to jump to: it is gone through once
                rows.sink_ipc(Path(folder, "rows.arrow"), compression="uncompressed")
                rows = pl.scan_ipc(Path(folder, "rows.arrow"))
            lazy = register_io_source(scored, schema=schema)
            sink = lazy.sink_csv if target.suffix == ".csv" else lazy.sink_parquet
            sink(temporary)
            if failures:
                raise failures[0]
        return count


def _batches(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield rows a bounded number at a time. (Polars' own batches are read ahead without bound when slowly taken.)"""
    total = rows.select(pl.len()).collect(engine="streaming").item()
    for start in range(0, total, ROWS_PER_BATCH):
        yield rows.slice(start, ROWS_PER_BATCH).collect()


def _encode_ahead(rows: pl.LazyFrame, inputs: ModelInputs) -> Iterator[SplitArrays]:
    """Yield encoded batches, the next one being read and encoded meanwhile."""
    batches = _batches(rows)

    def following() -> SplitArrays | None:
        frame = next(batches, None)
        return None if frame is None else inputs.encode(frame)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="funrec-rows") as pool:
        pending = pool.submit(following)
        while (arrays := pending.result()) is not None:
            pending = pool.submit(following)
            yield arrays


def to_polars(frame: pd.DataFrame | pl.DataFrame) -> pl.DataFrame:
    """Return a frame as a Polars one, whatever library it is from."""
    if isinstance(frame, pl.DataFrame):
        return frame
    columns = {}
    for name in frame.columns:
        values = frame[name]
        if values.dtype.kind in "iufb":
            columns[str(name)] = pl.Series(values.to_numpy())
        else:
            columns[str(name)] = pl.Series(
                [None if np.ndim(value) == 0 and value != value else value for value in values.tolist()], strict=False
            )
    return pl.DataFrame(columns)
