"""Checks of sizes and rates: each returns its value or says in one line what it should be."""

from __future__ import annotations

from funrec.utils.errors import InputError


def check_positive(name: str, value: int) -> int:
    """Return `value`, a positive whole number.

    Raises:
        InputError: If it is not that.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} should be a positive whole number. Received: {value}.")
    return value


def check_positive_number(name: str, value: float) -> float:
    """Return `value`, a finite number above 0.

    Raises:
        InputError: If it is not that.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name} should be a positive number. Received: {value}.")
    return float(value)


def check_rate(name: str, value: float) -> float:
    """Return `value`, a number in [0, 1).

    Raises:
        InputError: If it is not that.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError(f"{name} should be at least 0 and below 1. Received: {value}.")
    return float(value)
