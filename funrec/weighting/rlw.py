"""Random loss weighting."""

from __future__ import annotations

import tensorflow as tf

from funrec.weighting.base import State, Weighting, active_softmax, active_tasks


class RandomLossWeighting(Weighting):
    """New random weights in every step, `w = softmax(z)` with `z_t ~ N(0, 1)` (Lin et al., TMLR 2022, section 3).

    The baseline that a scheme should beat before it is called clever. Task parameters follow the weighted loss, as
    in the paper.
    """

    paper = "Lin et al., TMLR 2022"

    def weights(
        self,
        losses: tf.Tensor,
        gramian: tf.Tensor | None,
        state: State,
        key: tf.Tensor,
        active: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, State]:
        draws = tf.random.stateless_normal((len(self.tasks),), key)
        return active_softmax(draws, active_tasks(losses, active)), state
