"""Random loss weighting."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.base import State, Statistics, Weighting, active_softmax


class RandomLossWeighting(Weighting):
    """New random weights in every step, `w = softmax(z)` with `z_t ~ N(0, 1)` (Lin et al., TMLR 2022, section 3).

    The baseline that a scheme should beat before it is called clever.
    """

    paper = "Lin et al., TMLR 2022"

    def weights(self, step: Statistics, state: State) -> tuple[tf.Tensor, State]:
        draws = tf.random.stateless_normal((len(self.tasks),), step.key)
        return active_softmax(draws, step.present), state
