"""From a finished run and raw rows to probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from funrec.calibration.base import Fitted
from funrec.data.arrays import ModelInputs, SplitArrays, load_inputs
from funrec.data.datasets.files import PARQUET, file_kind, reading_errors
from funrec.data.datasets.sources import Source, open_source
from funrec.data.features.encoding import check_columns
from funrec.experiment import building
from funrec.experiment.baselines import has_network
from funrec.metrics.base import sigmoid
from funrec.models.model import MultiTaskModel
from funrec.runs import record as records
from funrec.runs.formula import columns_of, parse_formula, read_fusion
from funrec.training.scoring import Scorer
from funrec.training.shards import set_threads
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.files import replacing

ROWS_PER_BATCH = 1 << 17
MODEL = "model"
OUTPUTS = (".parquet", ".csv")


def load_model(run: Path) -> MultiTaskModel:
    """Return a finished run's model with the weights of its best epoch."""
    return building.load_model(records.read(run)["config"], load_inputs(run / MODEL), run)


class Predictor:
    """Scores raw rows with a finished run's model.

    A row needs the raw columns that the features are read from, as the data set's own files have them; others are
    ignored. An id that training did not see goes to the out-of-vocabulary row.

    Args:
        run: The run's folder, which is all that is needed: neither the data set nor its cache are looked at.
    """

    def __init__(self, run: Path) -> None:
        record = records.read(run)
        config = record["config"]
        if not has_network(config):
            raise InputError(f"New rows are scored with a network. Received: {run}, a run of {record['label']}.")
        set_threads(config)
        self.inputs = load_inputs(run / MODEL)
        self.model = building.load_model(config, self.inputs, run)
        trainer = config["trainer"]
        self._scorer = Scorer(self.model, trainer["eval_batch_size"], trainer.get("shards", 1))
        values = {task.name: "value" for task in self.inputs.tasks if not task.is_binary}
        self.calibration = Fitted.load(run / MODEL)
        calibrated = () if self.calibration is None else self.calibration.curves
        self._raw = values | {task: "score" for task in self.model.uncalibrated if task not in calibrated}
        dataset = config["dataset"]
        self._reading = {key: dataset.get(key) for key in ("separator", "storage_options")}
        self._null_values = dataset.get("null_values") or ()
        one_row = self.model.layout.empty_batch(rows=1)
        self._heads = list(self.model.scores(self.model(one_row), one_row))
        fusion = read_fusion(run)
        known = [column for head in self._heads for column in columns_of(head, self._raw.get(head, "p"))]
        self.formula = None if fusion is None else parse_formula(fusion["formula"], known)

    def move_on(self, source: str) -> None:
        """Let the histories of rows to come see a newer log as well: a file, a folder, a glob or a URI."""
        if self.inputs.history is None:
            raise InputError("--history should be given for a run with features of kind history. This one has none.")
        dtypes = dict.fromkeys(self.inputs.history.schema.names(), pl.String)
        table = open_source("--history", source, dtypes=dtypes, null_values=self._null_values, **self._reading)
        with reading_errors(lambda: table.name):
            self.inputs = replace(self.inputs, history=self.inputs.history.moved_on(table.scan()))

    def columns(self, logits: bool = False) -> list[str]:
        """Return the names of the columns of scores; the last is `score` where `funrec fuse` left a formula."""
        kind = "logit" if logits else "p"
        names = [f"{self._raw.get(head, kind)}_{head}" for head in self._heads]
        return names if self.formula is None else [*names, "score"]

    def score(self, rows: SplitArrays, logits: bool = False) -> pl.DataFrame:
        """Return a float32 column per head: a probability `p_<head>` or its logit `logit_<head>`; for regression
        `value_<task>`, and `score_<task>` where a loss only ranks; and `score` where heads are fused."""
        raw = self._scorer.score(rows)
        return self.named(raw if self.calibration is None else self.calibration.apply(raw, rows), logits)

    def named(self, scores: Mapping[str, Any], logits: bool = False) -> pl.DataFrame:
        """Return the columns of `score` for scores by head, calibrated if the run is."""
        values: dict[str, Any] = {}
        for head, of_head in scores.items():
            both = [of_head] if head in self._raw else [sigmoid(of_head), of_head]
            values |= dict(zip(columns_of(head, self._raw.get(head, "p")), both, strict=True))
        if self.formula is not None:
            values["score"] = self.formula.value(values)
        return pl.DataFrame({name: values[name] for name in self.columns(logits)}).cast(pl.Float32)

    def score_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the scores of raw rows, in their order."""
        return self.score(self.inputs.encode(frame))

    def score_file(self, source: str, target: Path, keep: Sequence[str] = (), logits: bool = False) -> int:
        """Score the rows of a file, a folder, a glob or a URI, in their order, and return how many there are.

        Rows are streamed, and the next are read and encoded while the present ones are scored, so the memory taken
        does not grow with their number. Text is first copied, its needed columns alone, to a file beside `target`.

        Args:
            source: CSV, TSV (either also compressed) or Parquet.
            target: A `.parquet` or `.csv` file, none of the source's; it appears whole or not at all.
            keep: Columns of the source to put before the scores; those of text files stay text.
            logits: Whether to write logits instead of probabilities.
        """
        if target.suffix not in OUTPUTS:
            raise InputError(f"The output should be a file of kind {', '.join(OUTPUTS)}. Received: {target}.")
        # Text stays text: a value that is no number is an unknown id then, and not an unreadable file.
        wanted = list(dict.fromkeys([*keep, *self.inputs.columns]))
        dtypes = dict.fromkeys(wanted, pl.String)
        table = open_source("FILE", source, dtypes=dtypes, null_values=self._null_values, **self._reading)
        _check_target(source, table, target)
        with reading_errors(lambda: table.name):
            rows = table.scan()
            schema = rows.collect_schema()
            check_columns(self.inputs.encoders, schema)
            if self.inputs.history is not None:
                self.inputs.history.check_columns(schema)
            for column in keep:
                if column not in schema:
                    raise InputError(f"--keep: no such column {column}.{did_you_mean(column, schema.names())}")
                if column in self.columns(logits):
                    raise InputError(f"--keep {column} should not be the name of a score. Rename that column.")
            rows = rows.select(wanted)
        failures: list[Exception] = []
        count = 0

        def scored(*_: Any) -> Iterator[pl.DataFrame]:
            nonlocal count
            try:
                for frame, arrays in _encode_ahead(rows, self.inputs):
                    count += len(arrays)
                    scores = self.score(arrays, logits)
                    yield frame.select(keep).hstack(scores) if keep else scores
            except Exception as error:  # Polars would wrap it
                failures.append(error)

        columns = {column: schema[column] for column in keep} | dict.fromkeys(self.columns(logits), pl.Float32())
        with (
            reading_errors(lambda: table.name),
            replacing(target) as temporary,
            TemporaryDirectory(prefix=".funrec-", dir=target.parent) as folder,
        ):
            if file_kind(table.paths[0]) not in PARQUET:  # text has no places to jump to: it is gone through once
                rows.sink_ipc(Path(folder, "rows.arrow"), compression="uncompressed")
                rows = pl.scan_ipc(Path(folder, "rows.arrow"))
            if self.inputs.history is not None:
                rows = self.inputs.history.add_to(rows, Path(folder))
            lazy = register_io_source(scored, schema=columns)
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


def _encode_ahead(rows: pl.LazyFrame, inputs: ModelInputs) -> Iterator[tuple[pl.DataFrame, SplitArrays]]:
    """Yield batches, raw and encoded, the next one being read and encoded meanwhile."""
    batches = _batches(rows)

    def following() -> tuple[pl.DataFrame, SplitArrays] | None:
        frame = next(batches, None)
        return None if frame is None else (frame, inputs.encode(frame))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="funrec-rows") as pool:
        pending = pool.submit(following)
        while (batch := pending.result()) is not None:
            pending = pool.submit(following)
            yield batch


def _check_target(text: str, source: Source, target: Path) -> None:
    """Refuse an output that is one of the files read, or would be the next time."""
    given = Path(text).expanduser().absolute()
    is_inside = given.is_dir() and target.absolute().parent.resolve() == given.resolve()
    is_matched = "*" in text and target.absolute().match(str(given))
    if is_inside or is_matched or (target.exists() and any(target.samefile(path) for path in source.paths)):
        raise InputError(f"The output should not be among the rows to score, {text}. Received: {target}.")
