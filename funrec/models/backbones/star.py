"""STAR: one network for all domains times one per domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import NetworkBackbone
from funrec.models.layers.mlp import add_bank_kernel
from funrec.models.layers.randomness import dropout
from funrec.utils.specs import Inherited, OptionalUnits, Rate, Units


class STAR(NetworkBackbone):
    """A network whose weights are shared ones times those of the row's domain, on inputs normalised by domain.

    For a row of domain `p` (Sheng et al., CIKM 2021, eq. 3-7), `*` elementwise:

        z = (gamma * gamma_p) (x - mean_p) / sqrt(variance_p + epsilon) + (beta + beta_p)
        h = activation(z (W * W_p) + b + b_p)          layer upon layer

    Means and variances are those of the domain's rows in the batch, moving averages of them once trained. The domains'
    weights start at 1 and their biases at 0, so that training starts from the shared network.

    The auxiliary network reads the domain and `x`. The paper adds its single output to the logit; here its units stand
    beside `h`, for every tower to read. Every domain's layers are computed for every row: it is made for a handful of
    domains (`dataset.domain`), whose cost it multiplies.

    Args:
        units: Hidden units of the network, input side first.
        auxiliary_units: Hidden units of the auxiliary network; empty for none.
        momentum: Of the moving averages.
        **network: See `NetworkBackbone`; its batch normalisation is the auxiliary network's alone.

    Input shape: `(batch, width)`, with the domain, one-hot, behind it.
    Output shape: `(towers, batch, units[-1] + auxiliary_units[-1])`.
    """

    paper = "Sheng et al., CIKM 2021"
    context = ("domain",)
    takes_whole_batches = True

    def __init__(
        self,
        units: Units = (64, 32),
        auxiliary_units: OptionalUnits = (16,),
        momentum: Rate = 0.99,
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.units = units
        self.auxiliary_units = auxiliary_units
        self.momentum = momentum

    def build(self, input_shape: Sequence[int | None]) -> None:
        domains = self.structure.num_domains
        width = int(input_shape[-1] or 0) - domains

        def add(count: int, units: int, start: str, name: str, trainable: bool = True) -> keras.Variable:
            return self.add_weight(shape=(count, units), initializer=start, name=name, trainable=trainable)

        self.gamma, self.beta = add(1, width, "ones", "gamma"), add(1, width, "zeros", "beta")
        self.domain_gamma = add(domains, width, "ones", "domain_gamma")
        self.domain_beta = add(domains, width, "zeros", "domain_beta")
        self.mean = add(domains, width, "zeros", "mean", trainable=False)
        self.variance = add(domains, width, "ones", "variance", trainable=False)
        self.kernels, self.biases, self.domain_kernels, self.domain_biases = [], [], [], []
        for depth, units in enumerate(self.units):
            self.kernels.append(add_bank_kernel(self, 1, width, units, f"kernel_{depth}"))
            self.biases.append(add(1, units, "zeros", f"bias_{depth}"))
            shape, name = (domains, width, units), f"domain_kernel_{depth}"
            self.domain_kernels.append(self.add_weight(shape=shape, initializer="ones", name=name))
            self.domain_biases.append(add(domains, units, "zeros", f"domain_bias_{depth}"))
            width = units
        self.auxiliary = self.bank(1, self.auxiliary_units, "auxiliary")
        self.auxiliary.build(input_shape)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        h, (domain,) = self.split(x)  # domain is (batch, domains)
        h = self._normalise(h, domain, training)
        dtype = self.compute_dtype
        activation = keras.activations.get(self.activation)
        for kernel, bias, domain_kernel, domain_bias in zip(
            self.kernels, self.biases, self.domain_kernels, self.domain_biases, strict=True
        ):
            by_domain = ops.matmul(h[None], ops.cast(kernel * domain_kernel, dtype))  # (domains, batch, units)
            h = ops.sum(by_domain * ops.transpose(domain)[..., None], axis=0)
            h = activation(h + ops.cast(bias, dtype) + ops.matmul(domain, ops.cast(domain_bias, dtype)))
            h = dropout(h, self.dropout) if training and self.dropout else h
        if self.auxiliary_units:
            h = ops.concatenate([h, self.auxiliary(x, training=training)[0]], axis=-1)
        return h, None

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return ops.repeat(ops.expand_dims(shared, 0), self.num_towers, axis=0)

    def _normalise(self, x: tf.Tensor, domain: tf.Tensor, training: bool) -> tf.Tensor:
        x, domain = ops.cast(x, "float32"), ops.cast(domain, "float32")
        mean, variance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
        if training:
            rows = ops.transpose(ops.sum(domain, axis=0, keepdims=True))  # (domains, 1)
            weights = ops.transpose(domain) / ops.maximum(rows, 1)
            of_batch = ops.matmul(weights, x)
            spread = ops.matmul(weights, ops.square(x - ops.matmul(domain, of_batch)))
            has_rows = rows > 0
            for average, kept, value in ((self.mean, mean, of_batch), (self.variance, variance, spread)):
                moved = kept * self.momentum + tf.stop_gradient(value) * (1 - self.momentum)
                average.assign(ops.where(has_rows, moved, kept))
            mean, variance = of_batch, spread
        scale = self.gamma * ops.matmul(domain, self.domain_gamma)
        centred = (x - ops.matmul(domain, mean)) * ops.rsqrt(ops.matmul(domain, variance) + 1e-3)
        return ops.cast(scale * centred + self.beta + ops.matmul(domain, self.domain_beta), self.compute_dtype)
