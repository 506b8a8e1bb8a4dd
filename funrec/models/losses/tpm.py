"""Tree-based progressive regression of watch time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import tensorflow as tf

from funrec.models.losses.base import Array, Loss, Prediction, mean_of
from funrec.utils.specs import NotNegative, whole


class TPM(Loss):
    """A binary tree over intervals of watch time, where the logit of every node says which half is likelier.

        loss = -log P(leaf of t) + regression_weight (E - t)^2 + variance_weight Var
        value = E = sum_leaf P(leaf) mean(leaf)

    Lin et al., KDD 2023. The leaves hold equally many training rows, `2^depth` of them; `P(leaf)` is the
    product along the path of `2^depth - 1` outputs. Expectation and variance are in units of the mean watch time. The
    paper trains with a variance term, which draws probabilities away from the truth; here it has no weight by default.

    Args:
        depth: Decisions from the root to a leaf.
        regression_weight: Weight of the squared error of the expectation.
        variance_weight: Weight of the variance of the predicted distribution.
    """

    paper = "Lin et al., KDD 2023"
    kind = "duration"

    def __init__(
        self,
        depth: Annotated[int, whole(1, 8)] = 4,
        regression_weight: NotNegative = 0.1,
        variance_weight: NotNegative = 0.0,
    ) -> None:
        self.leaves = 2**depth
        self.outputs = self.leaves - 1
        self.regression_weight = regression_weight
        self.variance_weight = variance_weight
        self._longer, self._shorter = _paths(depth)

    def initial_state(self) -> dict[str, Array]:
        return self.fit(np.linspace(0, 2, 1001, dtype=np.float32), None)

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        bounds = np.quantile(labels, np.linspace(0, 1, self.leaves + 1)[1:-1]).astype(np.float32)
        leaf = np.searchsorted(bounds, labels, side="right")
        rows = np.bincount(leaf, minlength=self.leaves)
        sums = np.bincount(leaf, labels, minlength=self.leaves)
        # Many equal watch times leave leaves empty; what little probability they keep stands at their upper bound.
        means = np.where(rows > 0, sums / np.maximum(rows, 1), np.append(bounds, labels.max()))
        return {"bounds": bounds, "means": means.astype(np.float32), "mean": mean_of(labels)}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        bounds = self.fit(labels, None)["bounds"]
        rows = np.bincount(np.searchsorted(bounds, labels, side="right"), minlength=self.leaves) + 0.5
        return list(np.log(self._longer @ rows) - np.log(self._shorter @ rows))

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        log_leaves = self._log_leaves(prediction)
        leaf = tf.searchsorted(self.state["bounds"], label, side="right")
        likelihood = -tf.gather(tf.transpose(log_leaves), leaf, axis=1, batch_dims=1)
        chances, means = tf.exp(log_leaves), (self.state["means"] / self.state["mean"])[:, None]
        expected = tf.reduce_sum(chances * means, axis=0)
        variance = tf.reduce_sum(chances * tf.square(means - expected), axis=0)
        error = tf.square(expected - label / self.state["mean"])
        return likelihood + self.regression_weight * error + self.variance_weight * variance

    def value(self, prediction: Prediction) -> tf.Tensor:
        return tf.reduce_sum(tf.exp(self._log_leaves(prediction)) * self.state["means"][:, None], axis=0)

    def _log_leaves(self, prediction: Prediction) -> tf.Tensor:
        """Return every leaf's log probability, `(leaves, batch)`."""
        longer, shorter = tf.math.log_sigmoid(prediction.outputs), tf.math.log_sigmoid(-prediction.outputs)
        return tf.matmul(self._longer, longer, True) + tf.matmul(self._shorter, shorter, True)


def _paths(depth: int) -> tuple[Array, Array]:
    """Return at which nodes the path to a leaf takes the longer, and the shorter half: two 0/1 `(nodes, leaves)`.

    Nodes are numbered as in a heap: the halves of node `n` are `2 n + 1` and `2 n + 2`.
    """
    longer, shorter = np.zeros((2, 2**depth - 1, 2**depth), np.float32)
    for leaf in range(2**depth):
        node = 0
        for level in reversed(range(depth)):
            is_longer = leaf >> level & 1
            (longer if is_longer else shorter)[node, leaf] = 1
            node = 2 * node + 1 + is_longer
    return longer, shorter
