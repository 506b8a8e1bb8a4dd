"""Shared bottom: one network under all towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import NetworkBackbone
from funrec.utils.specs import Inherited, Units


class SharedBottom(NetworkBackbone):
    """One network that every tower reads, `h_t = bottom(x)` (Caruana, Machine Learning 1997).

    Args:
        units: Hidden units of the bottom, input side first.
    """

    paper = "Caruana, Machine Learning 1997"

    def __init__(self, units: Units = (64,), **network: Inherited) -> None:
        super().__init__(**network)
        self.units = units

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.bottom = self.bank(1, self.units)
        self.bottom.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        return self.bottom(x, training=training), None  # (1, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(shared, self.num_towers, axis=0)
