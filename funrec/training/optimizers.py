"""Optimizers whose cost does not grow with the vocabulary."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from funrec.models.checks import check_positive_number, check_rate


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
        clipnorm: Largest norm of one variable's gradient; none for no clipping.

    Raises:
        InputError: If one of them is not what it should be.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clipnorm: float | None = None,
        name: str = "lazy_adam",
        **keras_options: Any,
    ) -> None:
        check_rate("optimizer.beta_1", beta_1)
        check_rate("optimizer.beta_2", beta_2)
        check_positive_number("optimizer.epsilon", epsilon)
        if clipnorm is not None:
            check_positive_number("optimizer.clipnorm", clipnorm)
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            clipnorm=clipnorm,
            name=name,
            **keras_options,
        )

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
        gradient = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
        new_mean = tf.gather(mean, rows) * self.beta_1 + gradient * (1 - self.beta_1)
        new_square = tf.gather(square, rows) * self.beta_2 + tf.square(gradient) * (1 - self.beta_2)
        mean.scatter_update(tf.IndexedSlices(new_mean, rows))
        square.scatter_update(tf.IndexedSlices(new_square, rows))
        alpha = learning_rate * tf.sqrt(1 - beta_2_power) / (1 - beta_1_power)
        variable.scatter_sub(tf.IndexedSlices(alpha * new_mean / (tf.sqrt(new_square) + self.epsilon), rows))
