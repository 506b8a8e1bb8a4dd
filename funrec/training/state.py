"""The state of a training: how far it has come, all that a checkpoint holds, and the error when it diverges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from funrec.training.optimizers import WeightAverage
from funrec.training.progress import EpochTotals
from funrec.training.step import TrainingStep
from funrec.utils.errors import InputError


def copy_to_host(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Return what variables hold now, whatever becomes of them."""
    # One copy of a table that is trained in place, none of a weight that is replaced; `numpy` would make two.
    return [np.asarray(variable.value.read_value()) for variable in variables]


class TrainingDiverged(InputError):
    """A loss or a score, `what`, turned NaN or infinite; the best epoch is counted from 1, and 0 if there is none."""

    def __init__(self, what: str, value: float, step: int, best_epoch: int) -> None:
        last_good = f"The last good epoch is {best_epoch}" if best_epoch else "No epoch was finished before"
        super().__init__(
            f"The {what} should stay finite. It turned {value} at step {step}. {last_good}. "
            "Lower optimizer.learning_rate or check the labels."
        )


def check_finite(losses: np.ndarray, tasks: Sequence[str], first_step: int, best_epoch: int) -> None:
    """Raise `TrainingDiverged` if one of a block's losses `(steps, tasks)` is not finite; steps are counted from 0."""
    bad = ~np.isfinite(losses)
    if bad.any():
        step, task = np.argwhere(bad)[0]
        raise TrainingDiverged(f"loss of {tasks[task]}", losses[step, task], first_step + step + 1, best_epoch)


@dataclass
class TrainingState:
    """How far a training has come. Batches and random numbers are functions of the step, so counters are enough.

    Attributes:
        epochs: Epochs of the whole training; `steps` likewise.
        totals: Sums over the steps so far of the epoch under way.
        epoch: Epochs finished: trained, validated and in the history.
        step: Steps taken.
        history: A row per finished epoch.
        best_epoch: The best of them, counted from 1; 0 before the first.
        best_score: What the monitor said of it, larger being better.
        resumed_at: Steps at which the training was resumed.
    """

    epochs: int
    steps: int
    totals: EpochTotals
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -np.inf
    resumed_at: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time in training steps of finished epochs, tracing and validation aside."""
        return float(sum(row["seconds"] for row in self.history))

    @property
    def rows_per_second(self) -> float:
        """Rows trained on per second of that time."""
        rows = sum(row["rows_per_second"] * row["seconds"] for row in self.history)
        return float(rows / max(self.seconds, 1e-9))

    @property
    def weighting_fallbacks(self) -> int | None:
        """Steps that fell back to even weights; None for a weighting that solves nothing."""
        counts = [row["weighting_fallbacks"] for row in self.history if "weighting_fallbacks" in row]
        return sum(counts) if counts else None

    def finish_epoch(self, row: dict[str, Any], score: float, is_always_best: bool) -> bool:
        """Enter an epoch into the history; return whether it is the best so far."""
        self.epoch += 1
        self.history.append(row)
        self.totals = EpochTotals(self.totals.tasks)
        is_best = is_always_best or score > self.best_score
        if is_best:
            self.best_epoch, self.best_score = self.epoch, score
        return is_best

    def position(self) -> str:
        """Return where the training stands, in words."""
        if not self.totals.steps:
            return f"after epoch {self.epoch} of {self.epochs}"
        return f"in epoch {self.epoch + 1} of {self.epochs}, after step {self.step} of {self.steps}"

    def to_plain(self) -> dict[str, Any]:
        """Return it as what JSON has; floats survive that to the last bit."""
        return {**vars(self), "history": list(self.history), "totals": self.totals.to_plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TrainingState:
        """Return what `to_plain` was called on."""
        return cls(**{**plain, "totals": EpochTotals.from_plain(plain["totals"])})


@dataclass
class Session:
    """A training under way: all that a checkpoint holds."""

    step: TrainingStep
    average: WeightAverage
    state: TrainingState

    def arrays(self, weights: Sequence[np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Return copies of the weights, which may be given, and of all else that training changes, by name."""
        weights = copy_to_host(self.step.model.weights) if weights is None else weights
        return {
            **_numbered("weights", weights),
            **_numbered("optimizer", copy_to_host(self.step.optimizer.variables)),
            **{f"weighting/{name}": value.numpy() for name, value in self.step.state.items()},
            **_numbered("average", self.average.totals()),
            "average_count": np.asarray(self.average.count),
        }

    @property
    def size(self) -> int:
        """Bytes of the weights and of what the optimizer keeps beside them."""
        variables = [*self.step.model.weights, *self.step.optimizer.variables]
        return 4 * sum(int(np.prod(variable.shape)) for variable in variables)

    def restore(self, arrays: Mapping[str, np.ndarray], state: TrainingState) -> None:
        """Restore everything from `arrays`, and continue from `state`.

        Raises `InputError` if they are another model's; nothing has changed then.
        """
        step = self.step
        variables = {
            **_numbered("weights", step.model.weights),
            **_numbered("optimizer", step.optimizer.variables),
            **{f"weighting/{name}": variable for name, variable in step.state.items()},
        }
        count = int(arrays.get("average_count", 0))
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()} | {"average_count": ()}
        if count:
            shapes |= _numbered("average", [tuple(variable.shape) for variable in step.model.weights])
        if shapes != {name: array.shape for name, array in arrays.items()}:
            raise InputError("The checkpoint should be of this model. Received: another model's. Start the run anew.")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.average.go_on([arrays[name] for name in shapes if name.startswith("average/")], count)
        self.state = replace(state, epochs=self.state.epochs, steps=self.state.steps)


def _numbered(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{kind}/{place}": value for place, value in enumerate(values)}
