"""A linear wide part: one weight per id and number for every tower."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from funrec.models.structure import Structure
from funrec.models.wide.none import NoWide
from funrec.utils.specs import NotNegative, PositiveNumber


class Linear(NoWide):
    """Adds a logistic regression to every tower: `z_t + scale * sum_f w_t[x_f]` (Cheng et al., DLRS 2016).

    Args:
        scale: What the stored weights are multiplied by; under Adam, how many times larger than the network's their
            step is.
        l2: Ridge penalty on the effective weights, `l2 * sum(w^2)` beside the sum of all rows' losses; scikit-learn's
            logistic regression with `C` has 1 / (2 C). See `FusedEmbedding.ridge`.
    """

    paper = "Cheng et al., DLRS 2016"

    def __init__(self, scale: PositiveNumber = 30.0, l2: NotNegative = 1.67, **layer: Any) -> None:
        super().__init__(**layer)
        self.scale = scale
        self.l2 = l2
        self.coefficients: keras.Variable | None = None

    def configure(self, structure: Structure) -> None:
        self.units = len(structure.towers)
        self.num_numeric = structure.num_numeric

    def build(self, input_shape: Any = None) -> None:
        if self.num_numeric:
            shape = (self.num_numeric, self.units)
            self.coefficients = self.add_weight(shape=shape, initializer="zeros", name="linear_coefficients")

    def logits(self, sums: tf.Tensor | None, numeric: tf.Tensor | None) -> tf.Tensor | None:
        if numeric is not None and self.coefficients is not None:
            products = tf.matmul(numeric, tf.cast(tf.convert_to_tensor(self.coefficients), numeric.dtype))
            sums = products if sums is None else sums + products
        return None if sums is None else tf.transpose(tf.cast(sums, tf.float32)) * self.scale

    def effective(self, weights: tf.Tensor) -> tf.Tensor:
        return weights * self.scale
