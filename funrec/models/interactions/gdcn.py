"""GDCN: cross layers with a gate on what each of them adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.mlp import add_bank_kernel
from funrec.utils.specs import PositiveInt


class GDCN(Interaction):
    """DCN-V2's cross layers, of which each decides by a gate how much of its crosses goes on.

    With `c_0` the embeddings and numbers side by side, and `*` elementwise (Wang et al., CIKM 2023, eq. 2):

        c_{l+1} = c_0 * (W_l c_l + b_l) * sigmoid(G_l c_l) + c_l

    Under a deep backbone such as shared_bottom this is the paper's stacked structure, GDCN-S. Its parallel one and its
    choice of a width for every field are not here.

    Args:
        num_layers: Number of cross layers; the highest order of a cross is one more.

    Output shape: the input's.
    """

    paper = "Wang et al., CIKM 2023"

    def __init__(self, num_layers: PositiveInt = 3, **layer: Any) -> None:
        super().__init__(**layer)
        self.num_layers = num_layers

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        copies, width = self.structure.copies, int(input_shape[-1] or 0)
        self.kernels, self.biases, self.gates = [], [], []
        for layer in range(self.num_layers):
            self.kernels.append(add_bank_kernel(self, copies, width, width, f"kernel_{layer}"))
            self.biases.append(self.add_weight(shape=(copies, 1, width), initializer="zeros", name=f"bias_{layer}"))
            self.gates.append(add_bank_kernel(self, copies, width, width, f"gate_{layer}"))

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        first = x
        for kernel, bias, gate in zip(self.kernels, self.biases, self.gates, strict=True):
            x = first * (ops.matmul(x, kernel) + bias) * ops.sigmoid(ops.matmul(x, gate)) + x
        return x
