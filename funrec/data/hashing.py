"""Keys that values are looked up by, their hashes, and draws that are a function of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.utils.errors import InputError

#: The dtypes that keys are kept in: a value is looked up as one of these, whatever it arrives as.
KEY_DTYPES: dict[str, pl.DataType] = {
    "Int64": pl.Int64(),
    "UInt64": pl.UInt64(),
    "Float64": pl.Float64(),
    "String": pl.String(),
}
_HASH_OF_NULL = np.uint64(0x6E756C6C)


def uniform(keys: NDArray[np.uint64], seed: int, site: str) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for every key: SplitMix64 (Steele et al., OOPSLA 2014) of key, seed and site.

    Returns:
        The draws, `(rows,)`. The same on every machine.
    """
    digest = hashlib.sha256(f"{seed}/{site}".encode()).digest()
    state = mix(keys.astype(np.uint64, copy=False) ^ np.uint64(int.from_bytes(digest[:8], "little")))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's output for every state, `(rows,)`: a hash of whole numbers."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def key_dtype(key: str, dtype: pl.DataType) -> str:
    """Return the name of the dtype that values of `dtype` are kept in as keys."""
    if dtype == pl.UInt64:
        return "UInt64"
    if dtype.is_integer():
        return "Int64"
    if dtype.is_float() or dtype.is_decimal():
        return "Float64"
    if dtype.is_temporal() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null):
        return "String"
    raise InputError(f"{key} should hold numbers, text, dates or a list of them. Received: {dtype}.")


def common_key_dtype(names: Sequence[str]) -> str:
    """Return the one key dtype that values of several can be looked up as."""
    distinct = set(names)
    if len(distinct) == 1:
        return distinct.pop()
    return "String" if "String" in distinct else "Float64"


def as_keys(values: pl.Expr, dtype: pl.DataType, key: str) -> pl.Expr:
    """Cast values of `dtype` to the key dtype `key`. NaN counts as null; a value that does not fit becomes null."""
    target = KEY_DTYPES[key]
    if dtype.is_float():
        values = values.fill_nan(None)
        if key in ("Int64", "UInt64"):
            return pl.when(values == values.floor()).then(values).cast(target, strict=False)
        if key == "String":
            # A whole number is written without a point: a table with a null turns the ids 7 into 7.0.
            whole = pl.when(values == values.floor()).then(values).cast(pl.Int64, strict=False).cast(pl.String)
            return pl.coalesce(whole, values.cast(pl.String))
    if dtype == target:
        # -0.0 and 0.0 are one key, though their bits differ.
        return pl.when(values.ne_missing(0.0)).then(values).otherwise(0.0) if key == "Float64" else values
    if dtype == pl.String and key in ("Int64", "UInt64"):
        number = values.str.strip_chars()
        real = number.cast(pl.Float64, strict=False)
        return pl.coalesce(
            number.cast(target, strict=False), pl.when(real == real.floor()).then(real).cast(target, strict=False)
        )
    if dtype == pl.String and key == "Float64":
        return values.str.strip_chars().cast(target, strict=False).fill_nan(None)
    return values.cast(target, strict=False)


def stable_hash(values: pl.Series, key: str) -> NDArray[np.uint64]:
    """Hash values by their key, the same on every machine and in every version.

    Numbers go through SplitMix64, text through pandas' documented hash.

    Returns:
        Hashes, `(rows,)`; all nulls share one.
    """
    keys = values.to_frame("value").select(as_keys(pl.col("value"), values.dtype, key)).to_series()
    missing = keys.is_null().to_numpy()
    if key != "String":
        return np.where(missing, _HASH_OF_NULL, mix(keys.fill_null(0).to_numpy().view(np.uint64)))
    from pandas.util import hash_array  # takes half a second to import, and few datasets need it

    texts = keys.fill_null("")
    distinct = texts.unique(maintain_order=True)
    hashes = hash_array(distinct.to_numpy().astype(object), categorize=False)
    return np.where(missing, _HASH_OF_NULL, hashes[codes_of_text(texts, pl.Enum(distinct))])


def codes_of_text(keys: pl.Series, enum: pl.Enum) -> NDArray[np.int64]:
    """Return the position of every text among the enum's categories; -1 for a null or an unknown one."""
    codes = keys.cast(enum, strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(-1).to_numpy()
