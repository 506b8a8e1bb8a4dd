"""What a backbone is: the part of a model that decides what the tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class Backbone(keras.layers.Layer):
    """Turns the features of a row into one representation per tower.

    A backbone works in two stages, so that a weighting can take per-task gradients between them:
    `share` computes the deepest tensor that every tower reads, `specialise` what each tower makes of it.

    Input shape: `(batch, width)`, or `(copies, batch, width)` where `embedding_layout` asks for copies.
    Output shape: `(towers, batch, units)`.
    """

    #: Where it is from, for `funrec list models`.
    paper = ""
    #: Whether towers stand on it; the logistic backbone's output is the logits themselves.
    has_towers = True

    #: Embeddings start uniform on (-limit, limit).
    embedding_limit = 0.05

    num_towers = 1
    num_numeric = 0

    def configure(self, num_towers: int, num_numeric: int) -> None:
        """Say how many towers read the backbone, and how many of `x`'s last columns are plain numbers.

        Called once, before the backbone is built.
        """
        self.num_towers = num_towers
        self.num_numeric = num_numeric

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        """Return how many independent copies of every embedding it reads, and their width.

        Args:
            dim: The width the features ask for; none where each feature has its own.
        """
        return 1, dim

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor | None, Any]:
        """Return the deepest tensor every tower reads (none if nothing is shared), and what else `specialise` needs."""
        raise NotImplementedError

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        """Return `(towers, batch, units)` from what `share` returned."""
        raise NotImplementedError

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """Trainable variables, embeddings aside, that more than one tower's loss reaches."""
        raise NotImplementedError

    @property
    def last_shared_variables(self) -> list[keras.Variable]:
        """The last layer of `shared_variables`, at which GradNorm compares gradients."""
        return self.shared_variables[-2:]

    def represent(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return `(towers, batch, units)`, what every tower reads."""
        return self.specialise(*self.share(x, training), training=training)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.represent(x, training)
