"""Sort rows by group, score and label in one pass over plain integers.

A row becomes one 64-bit integer: group code, order of its score, label, from the highest bit to the lowest. Sorting
those integers by value is several times faster than `lexsort` or an `argsort` followed by gathers, because nothing but
the keys moves and NumPy sorts integers with vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KEY_BITS = 64
FLOAT32_BITS = 32

Array = NDArray[Any]


class UndefinedMetric(ValueError):
    """A metric has no value on these rows; `reason` says why in half a sentence."""

    def __init__(self, metric: str, reason: str) -> None:
        super().__init__(f"{metric} is undefined: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows sorted by group, score and label, with equal rows counted together.

    Within a group runs rise by score, and among equal scores the negatives come before the positives.

    Attributes:
        positives: Rows with label 1 in every run, `int64 (runs,)`; zero in a run of negatives.
        negatives: Rows with label 0 in every run, `int64 (runs,)`; zero in a run of positives.
        scores: Number that rises with the run's score inside its group, `uint64 (runs,)`.
        group_starts: First run of every group, `int64 (groups,)`.
        groups: The groups' own values, ascending, `(groups,)`; one zero where no groups were given.
    """

    positives: Array
    negatives: Array
    scores: Array
    group_starts: Array
    groups: Array

    @property
    def tied_negatives(self) -> Array:
        """Negatives that share their score with a run of positives, `int64 (runs,)`; zero in a run of negatives."""
        tied = np.zeros_like(self.negatives)
        tied[1:] = self.negatives[:-1]
        # Where the run before has the same score it holds that score's negatives, unless it is another group's.
        tied[1:] *= (self.scores[1:] == self.scores[:-1]) & (self.positives[1:] > 0)
        tied[self.group_starts] = 0
        return tied


def sort_runs(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Runs:
    """Sort rows and count equal ones together; infinite scores are ordered like any other.

    Groups may have any type that sorts; None stands for a single group.

    Raises:
        ValueError: If lengths differ, a score or group is NaN, or a label is neither 0 nor 1.
    """
    positive, score_array = check_rows(labels, scores)
    group_codes, decode = None, _encode_groups(np.zeros(1, np.int64))[1]
    if groups is not None:
        group_array = np.asarray(groups)
        if group_array.shape != positive.shape:
            raise ValueError(
                f"groups should have one value per label. Received: {group_array.shape} and {positive.shape}."
            )
        group_codes, decode = _encode_groups(group_array)
    keys, score_bits = _pack(positive, score_array, group_codes)
    keys.sort()
    return _count_runs(keys, score_bits, decode)


def check_rows(labels: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return labels as booleans and scores as an array, both `(rows,)`.

    Raises:
        ValueError: If shapes differ or are not one-dimensional, a score is NaN, or a label is neither 0 nor 1.
    """
    label_array, score_array = np.asarray(labels), np.asarray(scores)
    if label_array.ndim != 1 or label_array.shape != score_array.shape:
        raise ValueError(
            f"labels and scores should be of one length. Received: {label_array.shape} and {score_array.shape}."
        )
    if score_array.dtype.kind not in "biuf":
        raise ValueError(f"scores should be numbers. Received: {score_array.dtype}.")
    if score_array.dtype.kind == "f" and np.isnan(score_array).any():
        raise ValueError(f"scores should not be NaN. Received: {int(np.isnan(score_array).sum())} NaN.")
    positive = label_array == 1
    if label_array.dtype != np.bool_ and not np.all(valid := positive | (label_array == 0)):
        raise ValueError(f"labels should be 0 or 1. Received: {label_array[np.argmin(valid)]}.")
    return positive, score_array


def undefined_reason(positives: int, negatives: int) -> str | None:
    """Say why an AUC over so many rows of each label is undefined; None if it is defined."""
    if positives and negatives:
        return None
    return "every label is 1" if positives else "every label is 0" if negatives else "there is no row"


def _encode_groups(groups: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return codes that sort as the groups do, `uint64 (rows,)`, and what turns codes back into groups."""
    if groups.dtype.kind in "iu" and groups.size:
        lowest, highest = int(groups.min()), int(groups.max())
        if (highest - lowest).bit_length() < KEY_BITS - FLOAT32_BITS:
            wide = groups.astype(np.uint64 if groups.dtype.kind == "u" else np.int64)
            wide -= wide.dtype.type(lowest)
            # Both steps wrap around alike where the range exceeds the type's positive half.
            return wide.view(np.uint64), lambda codes: codes.astype(groups.dtype) + groups.dtype.type(lowest)
    if groups.dtype.kind == "f" and np.isnan(groups).any():
        raise ValueError("groups should not be NaN: give rows without a group a value of their own.")
    try:
        values, codes = np.unique(groups, return_inverse=True)
    except TypeError as error:
        raise ValueError(
            "groups should be values of one type that sorts. Give rows without a group a value too."
        ) from error
    return codes.astype(np.uint64), lambda codes: values[codes]


def _pack(positive: Array, scores: Array, group_codes: Array | None) -> tuple[Array, int]:
    """Return one unsorted key per row, `uint64 (rows,)` in an order of its own, and the number of bits of the score."""
    single = _as_float32(scores)
    if single is not None:
        score_bits = FLOAT32_BITS
        ordered: Array = _ordered_bits(single)
    else:
        # Wider scores do not fit beside a group: their ranks do, and rows may stay in the order of their scores.
        order = np.argsort(scores)
        ascending = scores[order]
        ordered = np.zeros(scores.size, np.uint64)
        np.cumsum(ascending[1:] != ascending[:-1], out=ordered[1:])
        score_bits = scores.size.bit_length()
        positive = positive[order]
        group_codes = None if group_codes is None else group_codes[order]
    if group_codes is None:
        keys = ordered.astype(np.uint64)
    else:
        keys = group_codes << np.uint64(score_bits)
        keys |= ordered
    keys <<= np.uint64(1)
    keys |= positive
    return keys, score_bits


def _as_float32(scores: Array) -> Array | None:
    """Return the scores as `float32`, or None if that would change any of them."""
    if scores.dtype == np.float32:
        return scores
    with np.errstate(over="ignore"):
        single: Array = scores.astype(np.float32)
    if scores.dtype.kind in "biu" and scores.dtype.itemsize > 2:
        # A comparison of integers with floats rounds: beyond 2^24 only the ranks are safe.
        limit = 1 << 24
        return single if not scores.size or (scores.min() >= -limit and scores.max() <= limit) else None
    return single if np.array_equal(single, scores) else None


def _ordered_bits(scores: Array) -> Array:
    """Map `float32` to `uint32` so that integers sort as the numbers do, and -0.0 equals 0.0."""
    bits: Array = (scores + np.float32(0)).view(np.uint32)
    # Negative numbers grow with their bits in the wrong direction: flip all of them, and only the sign of the others.
    return bits ^ np.where(bits >> np.uint32(31), np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _count_runs(keys: Array, score_bits: int, decode: Callable[[Array], Array]) -> Runs:
    if not keys.size:
        empty = np.zeros(0, np.int64)
        return Runs(empty, empty, empty.astype(np.uint64), empty, empty)
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    counts = np.diff(starts, append=keys.size)
    run_keys = keys[starts]
    positives = counts * (run_keys & np.uint64(1)).astype(np.int64)
    counts -= positives
    run_keys >>= np.uint64(1)
    codes = run_keys >> np.uint64(score_bits)
    group_starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    groups = decode(codes[group_starts].astype(np.int64))
    run_keys &= np.uint64((1 << score_bits) - 1)
    return Runs(positives, counts, run_keys, group_starts, groups)


def undominated(values: Array) -> Array:
    """Return which points no other is at least as good as in every number and better in one, `bool (points,)`.

    Of `values`, `(points, numbers)`, more is better.
    """
    beaten = [np.any((values >= own).all(axis=1) & (values > own).any(axis=1)) for own in values]
    return ~np.array(beaten, bool)
