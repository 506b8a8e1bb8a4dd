"""What datasets that make up their rows have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Polars keeps a number of row groups in flight, so their size bounds the memory that reading the rows takes.
ROWS_PER_GROUP = 2**14


def write_rows(
    generate: Callable[[int, int], pl.DataFrame], rows: int, workdir: Path, rows_per_file: int = 2**18
) -> pl.LazyFrame:
    """Write `rows` rows to Parquet files in `workdir`, one file at a time, and return them lazily, in order.

    Args:
        generate: Makes the rows from its first argument on, as many as its second argument says.
        rows_per_file: What is in memory at once.
    """
    paths = []
    for start in range(0, rows, rows_per_file):
        paths.append(workdir / f"rows_{start:015d}.parquet")
        generate(start, min(rows_per_file, rows - start)).write_parquet(
            paths[-1], compression="lz4", row_group_size=ROWS_PER_GROUP
        )
    return pl.scan_parquet(paths)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `1 / (1 + exp(-logits))`, in a form that cannot overflow."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
