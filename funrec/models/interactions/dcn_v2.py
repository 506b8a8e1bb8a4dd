"""DCN-V2: explicit crosses of every order up to the number of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.mlp import add_bank_kernel
from funrec.utils.specs import Activation, PositiveInt


class DCNv2(Interaction):
    """Cross layers, each of which multiplies the row with a linear map of the layer before it.

    With `x_0` the embeddings and numbers side by side, and `*` elementwise (Wang et al., WWW 2021, eq. 1):

        x_{l+1} = x_0 * (W_l x_l + b_l) + x_l

    With a `rank`, a mixture of low-rank maps (eq. 4), whose gate `G` is a softmax:

        x_{l+1} = sum_i G_i(x_l) x_0 * (U_i g(C_i g(V_i^T x_l)) + b_l) + x_l

    The paper's stacked structure is this under a deep backbone such as shared_bottom.

    Args:
        num_layers: Number of cross layers; the highest order of a cross is one more.
        rank: Rank of the low-rank maps; None for full matrices.
        num_experts: Low-rank maps in the mixture; without a rank there is one full map.
        activation: The low-rank maps' `g`.

    Output shape: the input's.
    """

    paper = "Wang et al., WWW 2021"

    def __init__(
        self,
        num_layers: PositiveInt = 3,
        rank: PositiveInt | None = None,
        num_experts: PositiveInt = 4,
        activation: Activation = "tanh",
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        self.num_layers = num_layers
        self.rank = rank
        self.num_experts = num_experts
        self.activation = activation

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        copies, width = self.structure.copies, int(input_shape[-1] or 0)
        self.kernels, self.biases, self.gates = [], [], []
        for layer in range(self.num_layers):
            if self.rank is None:
                self.kernels.append([add_bank_kernel(self, copies, width, width, f"kernel_{layer}")])
            else:
                maps, rank = copies * self.num_experts, self.rank
                inner = add_bank_kernel(self, maps, width, rank, f"inner_{layer}")
                middle = add_bank_kernel(self, maps, rank, rank, f"middle_{layer}")
                outer = add_bank_kernel(self, maps, rank, width, f"outer_{layer}")
                self.kernels.append([inner, middle, outer])
                self.gates.append(add_bank_kernel(self, copies, width, self.num_experts, f"gate_{layer}"))
            self.biases.append(self.add_weight(shape=(copies, 1, width), initializer="zeros", name=f"bias_{layer}"))

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        first = x
        for layer, bias in enumerate(self.biases):
            mapped = ops.matmul(x, self.kernels[layer][0]) if self.rank is None else self._mix(x, layer)
            x = first * (mapped + bias) + x
        return x

    def _mix(self, x: tf.Tensor, layer: int) -> tf.Tensor:
        activation = keras.activations.get(self.activation)
        inner, middle, outer = self.kernels[layer]
        copies, width = x.shape[0], x.shape[-1]
        low = activation(ops.matmul(ops.repeat(x, self.num_experts, axis=0), inner))
        maps = ops.matmul(activation(ops.matmul(low, middle)), outer)  # (copies * experts, batch, width)
        maps = ops.reshape(maps, (copies, self.num_experts, -1, width))
        gates = ops.softmax(ops.matmul(x, self.gates[layer]))  # (copies, batch, experts)
        return ops.sum(ops.expand_dims(ops.transpose(gates, (0, 2, 1)), -1) * maps, axis=1)
