"""Gradient vaccine."""

from __future__ import annotations

import tensorflow as tf

from funrec.utils.specs import Inherited, Rate
from funrec.weighting.base import State, Statistics
from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.pcgrad import draw_orders


class GradVac(GramianWeighting):
    """The sum of the gradients, each turned towards the others until its cosine with them is what it usually is.

    For tasks `i` and `j`, in random order, with `phi = cos(g_i', g_j)` and its moving average `target`: if `phi <
    target`, then `g_i' += |g_i'| (target sqrt(1 - phi^2) - phi sqrt(1 - target^2)) / (|g_j| sqrt(1 - target^2)) g_j`;
    `target = (1 - beta) target + beta phi` (Wang et al., ICLR 2021, eq. 5-6 and algorithm 1). As in PCGrad all of it
    follows from the Gramian. Targets start at 0, where the rule is PCGrad's. All shared parameters are one group, where
    the paper also looks at layers apart.

    Args:
        beta: How fast the targets follow.
    """

    paper = "Wang et al., ICLR 2021"
    weighs_task_parameters = False  # as in PCGrad

    def __init__(self, beta: Rate = 0.01, **gramian: Inherited) -> None:
        super().__init__(**gramian)
        self.beta = beta

    def initial_state(self) -> State:
        return {**super().initial_state(), "targets": tf.zeros((len(self.tasks), len(self.tasks)))}

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        gramian, targets = (tf.cast(values, tf.float64) for values in (step.gramian, state["targets"]))
        orders, present = draw_orders(tf.size(step.losses), step.key), step.present
        pairs = present[:, None] & present[None, :] & ~tf.eye(len(self.tasks), dtype=tf.bool)
        weights, targets = vaccinate(gramian, orders, targets, self.beta, pairs)
        return tf.cast(weights, tf.float32), {**state, "targets": tf.cast(targets, tf.float32)}


def vaccinate(
    gramian: tf.Tensor, orders: tf.Tensor, targets: tf.Tensor, beta: float, pairs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the weights `(tasks,)` and the targets `(tasks, tasks)` after the step.

    Args:
        gramian: `(tasks, tasks)`, float64 as are the targets.
        orders: int32 `(tasks, tasks)`; row `i` is the order in which task `i` meets all (itself too).
        targets: Cosine that task `i` aims at with task `j`.
        beta: How fast the targets follow.
        pairs: Which pairs meet, bool `(tasks, tasks)`.
    """
    tasks = gramian.shape[0]
    norms = tf.sqrt(tf.maximum(tf.linalg.diag_part(gramian), 0))
    coefficients = tf.eye(tasks, dtype=gramian.dtype)
    for turn in range(tasks):  # every task meets its next one
        others = orders[:, turn]
        chosen = tf.one_hot(others, tasks, dtype=gramian.dtype)
        products = coefficients @ gramian
        own = tf.sqrt(tf.maximum(tf.reduce_sum(products * coefficients, axis=1), 0))
        theirs = tf.gather(norms, others)
        target = tf.reduce_sum(targets * chosen, axis=1)
        cosine = tf.math.divide_no_nan(tf.reduce_sum(products * chosen, axis=1), own * theirs)
        cosine = tf.clip_by_value(cosine, -1, 1)
        sine, target_sine = tf.sqrt(1 - cosine**2), tf.sqrt(1 - target**2)
        added = tf.math.divide_no_nan(own * (target * sine - cosine * target_sine), theirs * target_sine)
        meets = tf.gather(pairs, others, axis=1, batch_dims=1) & (own > 0) & (theirs > 0)
        coefficients += tf.where(meets & (cosine < target), added, 0)[:, None] * chosen
        targets += tf.where(meets, beta * (cosine - target), 0)[:, None] * chosen
    return tf.reduce_sum(coefficients, axis=0), targets
