"""Shared bottom: one network under all towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import Backbone
from funrec.models.checks import check_activation, check_flag, check_rate, check_units
from funrec.models.layers.mlp import MLPBank


@keras.saving.register_keras_serializable(package="funrec")
class SharedBottom(Backbone):
    """One network that every tower reads, `h_t = bottom(x)` (Caruana, Machine Learning 1997).

    Args:
        units: Hidden units of the bottom, input side first.
        activation: Activation of the bottom.
        dropout: Dropout rate after every layer.
        batch_normalization: Whether to normalise before the activation.

    Input shape: `(batch, width)`.
    Output shape: `(towers, batch, units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "Caruana, Machine Learning 1997"

    def __init__(
        self,
        units: Sequence[int] = (256, 128),
        activation: str = "relu",
        dropout: float = 0.1,
        batch_normalization: bool = False,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.units = check_units("model.backbone.units", units)
        self.activation = check_activation("model.backbone.activation", activation)
        self.dropout = check_rate("model.backbone.dropout", dropout)
        self.batch_normalization = check_flag("model.backbone.batch_normalization", batch_normalization)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.bottom = MLPBank(
            1, self.units, self.activation, self.dropout, self.batch_normalization, dtype=self.dtype_policy
        )
        self.bottom.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        return self.bottom(x, training=training), None  # (1, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(shared, self.num_towers, axis=0)
