"""Averages of weights along the end of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np


class WeightAverage:
    """The mean of snapshots of the weights (Izmailov et al., UAI 2018).

    A moving average of every step would read the whole embedding table every step; ten snapshots, evenly
    spaced over the same steps, average as well and cost ten passes over the table per epoch.

    Args:
        variables: The variables to average.
        steps: Over how many of an epoch's last steps.
        snapshots: How many snapshots, the last of them after the last step.
    """

    def __init__(self, variables: Sequence[keras.Variable], steps: int, snapshots: int) -> None:
        self.variables = list(variables)
        self.steps = steps
        self.snapshots = snapshots
        self._totals: list[np.ndarray] = []
        self._count = 0
        self._current: list[np.ndarray] = []

    def snapshot_steps(self, first_step: int, last_step: int) -> list[int]:
        """Return after which steps of the epoch `[first_step, last_step)` to take a snapshot."""
        steps = min(self.steps, last_step - first_step)
        return sorted({last_step - k * steps // self.snapshots for k in range(self.snapshots)})

    @property
    def count(self) -> int:
        """Snapshots taken so far of the mean under way."""
        return self._count

    def totals(self) -> list[np.ndarray]:
        """Return copies of their sums, by variable; empty where there is no mean under way."""
        return [total.copy() for total in self._totals]

    def go_on(self, totals: Sequence[np.ndarray], count: int) -> None:
        """Go on with a mean as `totals` and `count` had it."""
        self._totals, self._count = list(totals), count

    def take_snapshot(self) -> None:
        """Add the present weights to the mean."""
        values = [variable.numpy() for variable in self.variables]
        if not self._count:
            self._totals = [value.copy() for value in values]
        else:
            for total, value in zip(self._totals, values, strict=True):
                total += value
        self._count += 1

    def apply(self) -> None:
        """Put the mean in place of the weights, until `restore`."""
        self._current = [variable.numpy().copy() for variable in self.variables]
        for variable, total in zip(self.variables, self._totals, strict=True):
            total /= self._count
            variable.assign(total)
        self._totals, self._count = [], 0

    def restore(self) -> None:
        """Put the weights back that `apply` set aside."""
        for variable, value in zip(self.variables, self._current, strict=True):
            variable.assign(value)
        self._current = []
