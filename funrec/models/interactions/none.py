"""No interaction: the backbone reads the embeddings and numbers as they are."""

from __future__ import annotations

import keras
import tensorflow as tf

from funrec.models.interactions.base import Interaction


@keras.saving.register_keras_serializable(package="funrec")
class NoInteraction(Interaction):
    """Passes its input on."""

    is_identity = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x
