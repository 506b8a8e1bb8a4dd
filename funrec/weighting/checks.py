"""Checks of a weighting's arguments: each returns its value or says in one line what it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from funrec.schema import Task
from funrec.utils.errors import InputError, did_you_mean

SHARED = ("representation", "last_shared_layer", "all_shared")


def check_positive_number(name: str, value: float) -> float:
    """Return `value`, a finite number above 0.

    Raises:
        InputError: If it is not that.
    """
    if not _is_number(value) or not 0 < value < float("inf"):
        raise InputError(f"weighting.{name} should be a positive number. Received: {value}.")
    return float(value)


def check_not_negative(name: str, value: float) -> float:
    """Return `value`, a finite number of at least 0.

    Raises:
        InputError: If it is not that.
    """
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise InputError(f"weighting.{name} should be a number of at least 0. Received: {value}.")
    return float(value)


def check_fraction(name: str, value: float) -> float:
    """Return `value`, a number of at least 0 and below 1.

    Raises:
        InputError: If it is not that.
    """
    if not _is_number(value) or not 0 <= value < 1:
        raise InputError(f"weighting.{name} should be at least 0 and below 1. Received: {value}.")
    return float(value)


def check_shared(value: str) -> str:
    """Return `value`, over what per-task gradients are taken.

    Raises:
        InputError: If it is not one of `SHARED`.
    """
    if value not in SHARED:
        raise InputError(
            f"weighting.shared should be one of {', '.join(SHARED)}. Received: {value}.{did_you_mean(value, SHARED)}"
        )
    return value


def numbers_by_task(name: str, values: Mapping[str, float], tasks: Sequence[Task], default: float) -> list[float]:
    """Return a number of at least 0 per task, in the tasks' order; `default` for a task that `values` leaves out.

    Raises:
        InputError: If a name is no task's, or a number is negative.
    """
    known = [task.name for task in tasks]
    for task, value in values.items():
        if task not in known:
            raise InputError(f"weighting.{name}.{task}: no such task.{did_you_mean(task, known)}")
        check_not_negative(f"{name}.{task}", value)
    return [float(values.get(task, default)) for task in known]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
