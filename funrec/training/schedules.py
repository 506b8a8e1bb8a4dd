"""How a learning rate falls while a model trains."""

from __future__ import annotations

from collections.abc import Callable

import keras

#: By name: a Keras schedule of the first rate, the number of steps, and the share left at the end.
SCHEDULES: dict[str, Callable[[float, int, float], keras.optimizers.schedules.LearningRateSchedule]] = {
    "linear": lambda rate, steps, end: keras.optimizers.schedules.PolynomialDecay(rate, steps, rate * end),
    "cosine": lambda rate, steps, end: keras.optimizers.schedules.CosineDecay(rate, steps, end),
}


def schedule_learning_rate(optimizer: keras.optimizers.Optimizer, name: str, steps: int, final: float) -> None:
    """Let an optimizer's learning rate fall over `steps` steps to a share `final` of what it is."""
    optimizer.learning_rate = SCHEDULES[name](float(optimizer.learning_rate), steps, final)
