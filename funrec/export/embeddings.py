"""Embeddings as Parquet: a file per feature, a row per value of its vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from funrec.runs import record as records
from funrec.utils.errors import InputError
from funrec.utils.files import write_parquet
from funrec.utils.logging import load_tensorflow


def export_embeddings(run: str | Path, output: str | Path | None = None) -> list[Path]:
    """Write the embeddings of a finished run: `key`, its `count` in training, and `embedding`.

    Where the model has several embeddings of a value, one per tower or group, they stand side by side. Features
    whose values are hashed have no keys and no file; neither has a feature that shares another's embeddings.

    They go to the folder `output`; to `export/embeddings` in the run's folder if None.

    Raises:
        InputError: If there is no finished run, or the folder exists.
    """
    target = Path(output) if output else Path(run) / "export" / "embeddings"
    if target.exists():
        raise InputError(f"{target} should not exist. Received: an earlier export. Remove it or choose another folder.")
    records.read(run)
    load_tensorflow()
    from funrec.experiment.prediction import Predictor

    predictor = Predictor(Path(run))
    layer = predictor.model.embedding
    target.mkdir(parents=True)
    written = []
    for table, weights in zip(layer.tables, layer.weights_by_table, strict=True):
        values = np.asarray(weights)[:, : layer.copies * table.dim]  # without linear weights
        for name, first in table.first_row_of.items():
            vocabulary = predictor.inputs.vocabularies.get(name)
            if vocabulary is None or vocabulary.hash_buckets is not None:
                continue
            rows = values[first + 1 : first + len(vocabulary)]  # row 0 is out-of-vocabulary
            written.append(target / f"{name}.parquet")
            columns = [vocabulary.keys, vocabulary.counts, pl.Series("embedding", rows)]
            write_parquet(written[-1], pl.DataFrame(columns))
    return written
