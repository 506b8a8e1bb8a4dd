"""Checks of sizes and rates: each returns its value or says in one line what it should be."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from funrec.utils.errors import InputError


def check_units(name: str, units: Sequence[int], allow_empty: bool = False) -> tuple[int, ...]:
    """Return `units` as a tuple of positive whole numbers.

    Raises:
        InputError: If it is not that, or empty where `allow_empty` is false.
    """
    whole = isinstance(units, list | tuple) and all(
        isinstance(unit, int) and not isinstance(unit, bool) and unit > 0 for unit in units
    )
    if not whole or (not units and not allow_empty):
        received = list(units) if isinstance(units, tuple) else units
        raise InputError(f"{name} should be a list of positive whole numbers. Received: {received}.")
    return tuple(units)


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


def check_flag(name: str, value: bool) -> bool:
    """Return `value`, true or false.

    Raises:
        InputError: If it is not that: any text, `flase` included, would count as true.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} should be true or false. Received: {value}.")
    return value


def check_activation(name: str, value: str) -> str:
    """Return `value`, the name of a Keras activation.

    Raises:
        InputError: If Keras has no such activation.
    """
    try:
        if not isinstance(value, str):  # Keras would take a mapping too, and deserialise it
            raise ValueError("an activation is configured by its name")
        keras.activations.get(value)
    except ValueError as error:
        raise InputError(f"{name} should name a Keras activation such as relu or gelu. Received: {value}.") from error
    return value
