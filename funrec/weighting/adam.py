"""Adam for the few numbers that a weighting learns about itself."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.base import State


def adam_state(tasks: int) -> State:
    """Return the optimizer's state before its first step, to be kept among the weighting's own."""
    return {f"adam_{name}": tf.zeros((tasks,)) for name in ("mean", "square", "steps")}


def adam_step(
    values: tf.Tensor, gradient: tf.Tensor, state: State, learning_rate: float, active: tf.Tensor
) -> tuple[tf.Tensor, State]:
    """Return `values` after one step against `gradient`, and `state` with its `adam_` entries after it.

    Kingma & Ba, ICLR 2015, algorithm 1, with the paper's decays; an inactive task's value and moments stay. All are
    `(tasks,)`.
    """
    steps = state["adam_steps"] + 1
    mean = 0.9 * state["adam_mean"] + 0.1 * gradient
    square = 0.999 * state["adam_square"] + 0.001 * tf.square(gradient)
    corrected = mean / (1 - tf.pow(0.9, steps))
    scale = tf.sqrt(square / (1 - tf.pow(0.999, steps))) + 1e-8
    after = {"adam_mean": mean, "adam_square": square, "adam_steps": steps}
    after = {name: tf.where(active, value, state[name]) for name, value in after.items()}
    return tf.where(active, values - learning_rate * corrected / scale, values), {**state, **after}
