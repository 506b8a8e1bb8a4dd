"""GradNorm on the toy of its paper (Chen et al., ICML 2018, section 4.1), smaller."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from funrec.schema import Task
from funrec.weighting.base import Statistics, Weighting
from funrec.weighting.fixed import Fixed
from funrec.weighting.gradnorm import GradNorm

SIGMAS = np.array([1, 3, 5, 7, 10, 15, 20, 30, 50, 100], np.float32)
INPUTS, OUTPUTS, UNITS, LAYERS, STEPS = 20, 10, 32, 4, 400


def train(weighting: Weighting, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fit `f_i(x) = sigma_i tanh((B + e_i) x)` by one trunk and a linear head per task.

    Returns:
        Losses and weights by step.
    """
    draw = np.random.default_rng(seed)
    base = draw.normal(size=(OUTPUTS, INPUTS)) * 10**0.5
    own = draw.normal(size=(len(SIGMAS), OUTPUTS, INPUTS)) * 3.5**0.5
    targets = tf.constant((base + own) / INPUTS, tf.float32)  # keeps tanh off its ends in so few dimensions
    widths = [INPUTS] + [UNITS] * LAYERS
    trunk = [tf.Variable(draw.normal(size=(a, b)) * (2 / a) ** 0.5, dtype=tf.float32) for a, b in pairwise(widths)]
    # Small, so that a task's first loss is its targets' variance whatever its scale.
    heads = tf.Variable(0.02 * draw.normal(size=(len(SIGMAS), UNITS, OUTPUTS)), dtype=tf.float32)
    weighting.configure([Task(f"task_{i}", kind="regression") for i in range(len(SIGMAS))])
    state = {name: tf.Variable(value) for name, value in weighting.initial_state().items()}
    optimizer = tf.keras.optimizers.Adam(2e-3)
    optimizer.build([*trunk, heads])

    @tf.function
    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            hidden = x
            for kernel in trunk:
                hidden = tf.nn.relu(hidden @ kernel)
            predicted = tf.einsum("bu,tuo->tbo", hidden, heads)
            wanted = SIGMAS[:, None, None] * tf.tanh(tf.einsum("toi,bi->tbo", targets, x))
            losses = tf.reduce_mean(tf.square(predicted - wanted), axis=(1, 2))
            by_task = tf.unstack(losses)
        rows = tf.stack([tf.reshape(tape.gradient(loss, trunk[-1]), [-1]) for loss in by_task])
        known = {name: tf.convert_to_tensor(value) for name, value in state.items()}
        weights, after = weighting.weights(Statistics(losses, tf.constant([0, 0]), rows @ tf.transpose(rows)), known)
        for name, value in after.items():
            state[name].assign(value)
        gradients = tape.gradient(losses, [*trunk, heads], output_gradients=weights)
        optimizer.apply(gradients, [*trunk, heads])
        return losses, weights

    reports = [step(tf.constant(draw.normal(size=(100, INPUTS)), tf.float32)) for _ in range(STEPS)]
    losses, weights = (np.array([report[part].numpy() for report in reports]) for part in (0, 1))
    return losses, weights


@pytest.mark.slow
def test_slow_tasks_gain_weight_and_the_losses_ratios_end_closer_together() -> None:
    fixed, _ = train(Fixed())
    balanced, weights = train(GradNorm(alpha=0.12))
    final = {"fixed": fixed[-20:].mean(0) / fixed[0], "gradnorm": balanced[-20:].mean(0) / balanced[0]}
    # Under fixed weights the task of the largest scale is served first; the smallest waits, and it is to it that
    # the weight goes.
    assert final["fixed"].argmin() == 9 and final["fixed"].argmax() == 0
    assert weights[-1].argmax() == 0 and weights[-1, 0] > 3 and weights[-1, 9] < 0.1
    spread = {name: ratios.max() / ratios.min() for name, ratios in final.items()}
    assert spread["gradnorm"] < 0.75 * spread["fixed"]
    assert final["gradnorm"].mean() < 0.9 * final["fixed"].mean()
