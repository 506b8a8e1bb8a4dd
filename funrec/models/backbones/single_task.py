"""Single task: nothing shared, embeddings included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from funrec.models.backbones.base import Backbone
from funrec.models.checks import check_activation, check_flag, check_rate, check_units
from funrec.models.layers.mlp import MLPBank


@keras.saving.register_keras_serializable(package="funrec")
class SingleTask(Backbone):
    """Every tower has embeddings and a network of its own: the baseline negative transfer is measured against.

    Args:
        units: Hidden units of every tower's own network, input side first.
        activation: Activation of the networks.
        dropout: Dropout rate after every layer.
        batch_normalization: Whether to normalise before the activation.

    Input shape: `(towers, batch, width)`.
    Output shape: `(towers, batch, units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "one model per task, trained side by side"

    def __init__(
        self,
        units: Sequence[int] = (128, 64),
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

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.num_towers, dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.networks = MLPBank(
            self.num_towers,
            self.units,
            self.activation,
            self.dropout,
            self.batch_normalization,
            dtype=self.dtype_policy,
        )
        self.networks.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[None, tf.Tensor]:
        return None, x if len(x.shape) == 3 else x[None]

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return self.networks(private, training=training)
