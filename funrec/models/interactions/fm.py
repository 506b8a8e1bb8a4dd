"""FM: the second-order part of a factorisation machine, as DeepFM has it."""

from __future__ import annotations

import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction


class FM(Interaction):
    """Appends the products of all pairs of features to the row, without weights of its own.

    With a vector `v_i` per feature (Guo et al., IJCAI 2017, eq. 2; `*` elementwise):

        p = sum_{i<j} v_i * v_j = ((sum_i v_i)^2 - sum_i v_i^2) / 2

    The sum of `p`'s components is the paper's second-order term. It is left to the backbone, so that every task can
    weigh them. The paper's first-order term is `model/wide=linear`, its deep part the backbone, which reads the same
    vectors.

    Output shape: `(batch, (features + 1) * embedding_dim)`: the vectors side by side, then `p`.
    """

    paper = "Guo et al., IJCAI 2017"
    reads = "equal"

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        pairs = 0.5 * (ops.square(ops.sum(x, axis=2)) - ops.sum(ops.square(x), axis=2))
        flat = ops.reshape(x, (x.shape[0], -1, self.num_fields * self.field_width))
        return ops.concatenate([flat, pairs], axis=-1)
