"""No wide part, and what wide parts have in common."""

from __future__ import annotations

import keras
import tensorflow as tf

from funrec.models.structure import Structure


class NoWide(keras.layers.Layer):
    """Adds nothing to the logits; the base class of parts that do."""

    #: Where it is from, for `funrec list models`.
    paper = ""
    #: Weights of every embedding row that stand beside the embedding, one per tower where there are any.
    units = 0
    #: Ridge penalty on the effective weights.
    l2 = 0.0

    def configure(self, structure: Structure) -> None:
        """Take the shape of the model; called once, before the part is built."""

    def logits(self, sums: tf.Tensor | None, numeric: tf.Tensor | None) -> tf.Tensor | None:
        """Return what is added to the logits, float32 `(towers, batch)`, or None.

        Args:
            sums: The sum of the features' weights, `(batch, towers)`; None where no feature has an embedding.
            numeric: `(batch, numbers)`; None where there are no numbers.
        """
        return None

    def effective(self, weights: tf.Tensor) -> tf.Tensor:
        """Return the weights that the logit sees, from those that are kept; penalties are on the former."""
        return weights
