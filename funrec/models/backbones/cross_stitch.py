"""Cross-stitch: a network per tower, and units that mix them after every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from pydantic import Field

from funrec.models.backbones.base import NetworkBackbone
from funrec.utils.specs import Inherited, PositiveNumber, Units, worded


class CrossStitch(NetworkBackbone):
    """One network per tower on shared embeddings; after every layer each reads a learned combination of all.

    `x~_i,u = sum_j alpha_ij,u * x_j,u`   for every unit `u` of a layer   (Misra et al., CVPR 2016, eq. 1)

    The weights start as the paper's convex combination, `same_task` for a tower's own network and the rest in equal
    parts for the others. The paper trains them with a learning rate 100 to 1000 times that of the networks; here they
    are kept as `alpha / scale` instead, which under Adam makes their step `scale` times larger.

    Args:
        units: Hidden units of every network, input side first; a cross-stitch unit follows every layer.
        same_task: What a tower starts with of its own network.
        scale: How many times the learning rate a step of `alpha` is.
    """

    paper = "Misra et al., CVPR 2016"

    def __init__(
        self,
        units: Units = (64, 32),
        same_task: Annotated[float, Field(gt=0, le=1), worded("above 0 and at most 1")] = 0.9,
        scale: PositiveNumber = 100.0,
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.units = units
        self.same_task = same_task
        self.scale = scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        towers = self.num_towers
        others = (1.0 - self.same_task) / max(towers - 1, 1)
        start = np.where(np.eye(towers, dtype=bool), self.same_task, others) if towers > 1 else np.ones((1, 1))
        self.banks, self.stitches = [], []
        shape = tuple(input_shape)
        for depth, units in enumerate(self.units):
            bank = self.bank(towers, (units,), name=f"layer_{depth + 1}")
            bank.build(shape)
            self.banks.append(bank)
            values = np.repeat(start[:, :, None], units, axis=2).astype(np.float32) / self.scale
            self.stitches.append(
                self.add_weight(
                    shape=values.shape, initializer=keras.initializers.Constant(values), name=f"stitch_{depth + 1}"
                )
            )
            shape = (towers, None, units)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        for depth, bank in enumerate(self.banks):
            x = bank(x if depth == 0 else self._stitch(x, depth - 1), training=training)
        return x, None  # (towers, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return self._stitch(shared, len(self.banks) - 1)

    def _stitch(self, x: tf.Tensor, depth: int) -> tf.Tensor:
        alpha = ops.cast(self.stitches[depth] * self.scale, x.dtype)  # (towers, networks, units)
        return ops.sum(ops.expand_dims(alpha, 2) * x, axis=1)
