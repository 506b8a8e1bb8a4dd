"""RankMixer: tokens that exchange parts of themselves, each with a network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from funrec.models.interactions.base import Interaction
from funrec.models.layers.layer_norm import LayerNorm
from funrec.models.layers.mlp import Towers, add_bank_kernel
from funrec.utils.errors import InputError
from funrec.utils.specs import PositiveInt


class RankMixer(Interaction):
    """Token mixing without weights, and a feed-forward network per token.

    The row is cut into `T` pieces of equal width, features in the order of the configuration, and each is mapped to a
    token of `D` numbers. Every layer then is (Zhu et al., CIKM 2025, eq. 1-6):

        s_h = [x_1^h, ..., x_T^h]        token mixing: the h-th of T parts of every token
        S   = LN(s + X)
        X  <- LN(f_t(S) + S)             f_t(s_t) = W2_t gelu(W1_t s_t + b1_t) + b2_t

    and the result is the mean of the tokens. As in the paper there are as many heads as tokens, so that the residual
    fits. Zeros fill the last piece up where the width is not a multiple of the tokens. The paper's sparse mixture of
    experts is not here.

    Args:
        num_layers: Number of layers.
        num_tokens: Tokens, `T`.
        token_dim: Width of a token, `D`; a multiple of `num_tokens`.
        expansion: How many times as wide as a token its network's hidden layer is.

    Output shape: `(batch, token_dim)`.

    Raises:
        InputError: If the tokens do not divide their width.
    """

    paper = "Zhu et al., CIKM 2025"

    def __init__(
        self,
        num_layers: PositiveInt = 2,
        num_tokens: PositiveInt = 4,
        token_dim: PositiveInt = 32,
        expansion: PositiveInt = 2,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        if token_dim % num_tokens:
            raise InputError(
                f"model.interaction.num_tokens should divide model.interaction.token_dim, {token_dim}. "
                f"Received: {num_tokens}."
            )
        self.num_layers = num_layers
        self.num_tokens = num_tokens
        self.token_dim = token_dim
        self.expansion = expansion

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        copies, tokens, dim, policy = self.structure.copies, self.num_tokens, self.token_dim, self.dtype_policy
        self.padding = -int(input_shape[-1] or 0) % tokens
        piece = (int(input_shape[-1] or 0) + self.padding) // tokens
        banks = copies * tokens
        self.projection = add_bank_kernel(self, banks, piece, dim, "projection")
        self.projection_bias = self.add_weight(shape=(banks, 1, dim), initializer="zeros", name="projection_bias")
        self.norms, self.networks = [], []
        for place in range(self.num_layers):
            norms = [LayerNorm((copies, 1, 1, dim), name=f"norm_{place}_{n}", dtype=policy) for n in range(2)]
            units = (self.expansion * dim,)
            network = Towers(banks, units, "gelu", outputs=dim, dtype=policy, name=f"network_{place}")
            for norm in norms:
                norm.build()
            network.build((banks, None, dim))
            self.norms.append(norms)
            self.networks.append(network)

    def interact(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        copies, tokens, dim = x.shape[0], self.num_tokens, self.token_dim
        x = ops.pad(x, ((0, 0), (0, 0), (0, self.padding))) if self.padding else x
        pieces = ops.transpose(ops.reshape(x, (copies, -1, tokens, x.shape[-1] // tokens)), (0, 2, 1, 3))
        pieces = ops.reshape(pieces, (copies * tokens, -1, pieces.shape[-1]))
        by_token = (copies, tokens, -1, dim)
        x = ops.reshape(ops.matmul(pieces, self.projection) + self.projection_bias, by_token)
        for norms, network in zip(self.norms, self.networks, strict=True):
            x = norms[0](self._mix(x) + x)
            made = network(ops.reshape(x, (copies * tokens, -1, dim)))
            x = norms[1](ops.reshape(made, by_token) + x)
        return ops.mean(x, axis=1)

    def _mix(self, x: tf.Tensor) -> tf.Tensor:
        """Return `(copies, tokens, batch, width)` with the h-th parts of all tokens as the h-th token."""
        copies, tokens, dim = x.shape[0], self.num_tokens, self.token_dim
        parts = ops.reshape(x, (copies, tokens, -1, tokens, dim // tokens))
        return ops.reshape(ops.transpose(parts, (0, 3, 2, 1, 4)), (copies, tokens, -1, dim))
