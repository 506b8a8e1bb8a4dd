"""What moves the weights: an Adam whose cost does not grow with the vocabulary, learning rates that fall, averages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from funrec.utils.specs import PositiveNumber, Rate

#: By name: a Keras schedule of the first rate, the number of steps, and the fraction left at the end.
SCHEDULES: dict[str, Callable[[float, int, float], keras.optimizers.schedules.LearningRateSchedule]] = {
    "linear": lambda rate, steps, end: keras.optimizers.schedules.PolynomialDecay(rate, steps, rate * end),
    "cosine": lambda rate, steps, end: keras.optimizers.schedules.CosineDecay(rate, steps, end),
}


@keras.saving.register_keras_serializable(package="funrec")
class LazyAdam(keras.optimizers.Adam):
    """Adam that touches only the embedding rows a batch looked up.

    Kingma & Ba, ICLR 2015, algorithm 1, with a row's moments decaying only in the steps that touch it. That
    differs from Adam proper, where a row goes on moving by its momentum while no batch mentions it, and
    costs the same at a thousand rows and at ten million. Dense weights get Adam's own update.

    Args:
        learning_rate: Step size.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        epsilon: Keeps the quotient finite.
        clipnorm: Largest norm of one variable's gradient; null for no clipping.
    """

    def __init__(
        self,
        learning_rate: float = 3e-3,
        beta_1: Rate = 0.9,
        beta_2: Rate = 0.999,
        epsilon: PositiveNumber = 1e-7,
        clipnorm: PositiveNumber | None = None,
        name: str = "lazy_adam",
        **keras_options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, clipnorm=clipnorm, name=name, **keras_options)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index].value, self._velocities[index].value
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1_power, beta_2_power = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        learning_rate = tf.cast(learning_rate, tf.float32)
        if not isinstance(gradient, tf.IndexedSlices):
            tf.raw_ops.ResourceApplyAdam(  # one kernel for what Keras does in a dozen
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=beta_1_power,
                beta2_power=beta_2_power,
                lr=learning_rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
            return
        rows, position = tf.unique(gradient.indices)
        gradient = sum_by_row(gradient.values, position, tf.size(rows))
        new_mean = tf.gather(mean, rows) * self.beta_1 + gradient * (1 - self.beta_1)
        new_square = tf.gather(square, rows) * self.beta_2 + tf.square(gradient) * (1 - self.beta_2)
        mean.scatter_update(tf.IndexedSlices(new_mean, rows))
        square.scatter_update(tf.IndexedSlices(new_square, rows))
        alpha = learning_rate * tf.sqrt(1 - beta_2_power) / (1 - beta_1_power)
        variable.scatter_sub(tf.IndexedSlices(alpha * new_mean / (tf.sqrt(new_square) + self.epsilon), rows))


def sum_by_row(values: tf.Tensor, position: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return `unsorted_segment_sum(values, position, rows)`, in a third of its time where rows are narrow."""
    places = tf.range(tf.size(position), dtype=tf.int64)
    entries = tf.stack([tf.cast(position, tf.int64), places], axis=1)
    shape = tf.stack([tf.cast(rows, tf.int64), tf.size(position, tf.int64)])
    ones = tf.ones(tf.shape(position), values.dtype)
    return tf.sparse.sparse_dense_matmul(tf.SparseTensor(entries, ones, shape), values)


class WeightAverage:
    """The mean of snapshots of the weights (Izmailov et al., UAI 2018).

    A moving average of every step would read the whole embedding table every step; ten snapshots, evenly
    spaced over the same steps, average as well and cost ten passes over the table per epoch. They are taken over an
    epoch's last `steps`, the last of them after the last step.
    """

    def __init__(self, variables: Sequence[keras.Variable], steps: int, snapshots: int) -> None:
        self.variables = list(variables)
        self.steps = steps
        self.snapshots = snapshots
        self._totals: list[np.ndarray] = []
        #: Snapshots taken so far of the mean under way.
        self.count = 0
        self._current: list[np.ndarray] = []

    def snapshot_steps(self, first_step: int, last_step: int) -> list[int]:
        """Return after which steps of the epoch `[first_step, last_step)` to take a snapshot."""
        steps = min(self.steps, last_step - first_step)
        return sorted({last_step - k * steps // self.snapshots for k in range(self.snapshots)})

    def totals(self) -> list[np.ndarray]:
        """Return copies of their sums, by variable; empty where there is no mean under way."""
        return [total.copy() for total in self._totals]

    def go_on(self, totals: Sequence[np.ndarray], count: int) -> None:
        """Continue the mean that `totals` and `count` describe."""
        self._totals, self.count = list(totals), count

    def take_snapshot(self) -> None:
        """Add the present weights to the mean."""
        values = [variable.numpy() for variable in self.variables]
        if not self.count:
            self._totals = [value.copy() for value in values]
        else:
            for total, value in zip(self._totals, values, strict=True):
                total += value
        self.count += 1

    def apply(self) -> None:
        """Put the mean in place of the weights, until `restore`."""
        self._current = [variable.numpy().copy() for variable in self.variables]
        for variable, total in zip(self.variables, self._totals, strict=True):
            total /= self.count
            variable.assign(total)
        self._totals, self.count = [], 0

    def restore(self) -> None:
        """Put the weights back that `apply` set aside."""
        for variable, value in zip(self.variables, self._current, strict=True):
            variable.assign(value)
        self._current = []
