"""Single task: nothing shared, embeddings included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from funrec.models.backbones.base import NetworkBackbone
from funrec.utils.specs import Inherited, Units


class SingleTask(NetworkBackbone):
    """Every tower has embeddings and a network of its own: the baseline negative transfer is measured against.

    Args:
        units: Hidden units of every tower's own network, input side first.

    Input shape: `(towers, batch, width)`.
    Output shape: `(towers, batch, units[-1])`.
    """

    paper = "one model per task, trained side by side"

    def __init__(self, units: Units = (64,), **network: Inherited) -> None:
        super().__init__(**network)
        self.units = units

    def embedding_layout(self, dim: int | None) -> tuple[int, int | None]:
        return self.num_towers, dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.networks = self.bank(self.num_towers, self.units)
        self.networks.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[None, tf.Tensor]:
        return None, x if len(x.shape) == 3 else x[None]

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return self.networks(private, training=training)
