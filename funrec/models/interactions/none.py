"""No interaction: the backbone reads the embeddings and numbers as they are."""

from __future__ import annotations

import tensorflow as tf

from funrec.models.interactions.base import Interaction


class NoInteraction(Interaction):
    """Passes its input on."""

    is_identity = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x
