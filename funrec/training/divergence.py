"""Training that has gone wrong: which number, when, and what was good last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funrec.utils.errors import InputError


class TrainingDiverged(InputError):
    """A loss or a score turned NaN or infinite.

    Args:
        what: Which one.
        value: What it turned.
        step: After how many steps.
        best_epoch: The best epoch so far, counted from 1; 0 if there is none.
    """

    def __init__(self, what: str, value: float, step: int, best_epoch: int) -> None:
        last_good = f"The last good epoch is {best_epoch}" if best_epoch else "No epoch was finished before"
        super().__init__(
            f"The {what} should stay finite. It turned {value} at step {step}. {last_good}. "
            "Lower optimizer.learning_rate or check the labels."
        )


def check_finite(losses: np.ndarray, tasks: Sequence[str], first_step: int, best_epoch: int) -> None:
    """Check a block's losses `(steps, tasks)`, the first of which is that of step `first_step`, counted from 0.

    Raises:
        TrainingDiverged: If one is not finite.
    """
    bad = ~np.isfinite(losses)
    if bad.any():
        step, task = np.argwhere(bad)[0]
        raise TrainingDiverged(f"loss of {tasks[task]}", losses[step, task], first_step + step + 1, best_epoch)
