"""The domain of a row: which feature it is, and that it is known wherever it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.features.vocabulary import Vocabulary
from funrec.utils.errors import InputError

#: What would give two domains one embedding row.
_FORBIDDEN = ("hash_buckets", "max_vocabulary", "share_with")
_MOST_SHOWN = 5


def add_domain(features: Mapping[str, Any], column: str | None) -> tuple[dict[str, Any], str | None]:
    """Return `dataset.features` with one that reads the domain's column, and that feature's name."""
    if column is None:
        return dict(features), None
    column = str(column)
    for name, values in features.items():
        values = values or {}
        if column not in (name, values.get("column")):
            continue
        kind = values.get("kind") or "categorical"
        odd = [key for key in _FORBIDDEN if values.get(key) is not None]
        odd += ["min_count"] if (values.get("min_count") or 1) > 1 else []
        if kind != "categorical" or odd:
            raise InputError(
                "dataset.domain should name a categorical feature that has a row for every value. Received: "
                f"{name}, " + (f"which sets {odd[0]}." if kind == "categorical" else f"a {kind} one.")
            )
        return dict(features), name
    return {**features, column: {}}, column


def check_domains(name: str, known: Vocabulary) -> None:
    """Check what the training rows have for domains."""
    if known.keys.null_count():
        rows = known.counts.filter(known.keys.is_null())[0]
        raise InputError(
            f"dataset.domain={name} should have a value in every row. It is null in {rows:,} training rows: leave them "
            f"out, dataset.where='{name} IS NOT NULL'."
        )
    if len(known.keys) < 2:
        raise InputError(
            f"dataset.domain={name} should have at least two values in the training rows. Received: "
            f"{', '.join(map(str, known.keys))} alone. Drop dataset.domain."
        )


def check_rows_domains(
    name: str, ids: NDArray[np.int32], values: pl.Series, vocabulary: Vocabulary, where: str
) -> None:
    """Check that rows, of these embedding rows and raw values, are of domains that training met."""
    if ids.all():
        return
    keys = vocabulary.keys.to_list()
    shown = ", ".join(map(str, keys[:_MOST_SHOWN])) + (", ..." if len(keys) > _MOST_SHOWN else "")
    first = values[int(np.flatnonzero(ids == 0)[0])]
    raise InputError(
        f"dataset.domain={name} should be one that the training rows have: {shown}. Received: "
        f"{'null' if first is None else first} in {where}, {int((ids == 0).sum()):,} rows with such. Leave them out."
    )
