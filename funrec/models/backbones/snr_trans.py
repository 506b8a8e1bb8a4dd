"""SNR-Trans: sub-networks whose connections are learned, and switched off where they do not help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import keras
import tensorflow as tf
from keras import ops

from funrec.models.backbones.base import NetworkBackbone
from funrec.models.funnels.base import LogProbability
from funrec.models.layers.mlp import add_bank_kernel
from funrec.models.layers.randomness import current_sites
from funrec.schema import Task
from funrec.utils.specs import Inherited, NotNegative, PositiveInt, PositiveNumber, Units, worded

#: The interval that the gates' distribution is stretched to before it is clipped to [0, 1].
LOW, HIGH = -0.1, 1.1


class SNRTrans(NetworkBackbone):
    """Levels of sub-networks; each, and each tower, reads a sum of linear maps of the level below, every one gated.

    `v_i = sum_j z_ij W_ij u_j`   (Ma et al., AAAI 2019, eq. 2)

    A gate `z` is drawn from a hard concrete distribution in training (section 3.2) and at its centre otherwise:

        s = sigmoid((log u - log(1 - u) + log_alpha) / temperature),   z = clip(1.2 s - 0.1, 0, 1)

    `l0 * sum sigmoid(log_alpha - temperature * log(0.1 / 1.1))`, the expected number of open connections, is added to
    the loss (eq. 7). A draw is one for the batch.

    Args:
        num_networks: Sub-networks of a level.
        units: Units of the sub-networks, a level each.
        temperature: Of the gates' distribution, the paper's `beta`.
        l0: Weight of the expected number of open connections; 0 for none.
        open_at_first: How often a connection is open at first, before it is clipped.
    """

    paper = "Ma et al., AAAI 2019"
    takes_whole_batches = True  # one draw of the connections for all of its rows

    def __init__(
        self,
        num_networks: PositiveInt = 4,
        units: Units = (32, 32),
        temperature: PositiveNumber = 0.9,
        l0: NotNegative = 0.0001,
        open_at_first: Annotated[float, worded("strictly between 0 and 1", lambda share: 0 < share < 1)] = 0.9,
        **network: Inherited,
    ) -> None:
        super().__init__(**network)
        self.num_networks = num_networks
        self.units = units
        self.temperature = temperature
        self.l0 = l0
        self.open_at_first = open_at_first

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.banks, self.maps, self.log_alphas = [], [], []
        shape = tuple(input_shape)
        start = keras.initializers.Constant(math.log(self.open_at_first / (1 - self.open_at_first)))
        for level, units in enumerate(self.units):
            bank = self.bank(self.num_networks, (units,), name=f"level_{level + 1}")
            bank.build(shape)
            readers = self.num_towers if level == len(self.units) - 1 else self.num_networks
            connections = readers * self.num_networks
            self.banks.append(bank)
            self.maps.append(add_bank_kernel(self, connections, units, units, f"map_{level + 1}"))
            self.log_alphas.append(
                self.add_weight(shape=(connections,), initializer=start, name=f"log_alpha_{level + 1}")
            )
            shape = (self.num_networks, None, units)

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, None]:
        for level, bank in enumerate(self.banks):
            x = bank(x if level == 0 else self._connect(x, level - 1, training), training=training)
        return x, None  # (networks, batch, units)

    def specialise(self, shared: tf.Tensor | None, private: Any, training: bool = False) -> tf.Tensor:
        return self._connect(shared, len(self.banks) - 1, training)

    def connections(self, level: int, training: bool = False) -> tf.Tensor:
        """Return the gates of a level, `(readers, networks)`."""
        log_alpha = tf.convert_to_tensor(self.log_alphas[level])
        if training:
            u = tf.random.stateless_uniform(log_alpha.shape, current_sites().next_key(), 1e-6, 1 - 1e-6)
            s = tf.sigmoid((tf.math.log(u) - tf.math.log1p(-u) + log_alpha) / self.temperature)
        else:
            s = tf.sigmoid(log_alpha)
        return tf.reshape(tf.clip_by_value(s * (HIGH - LOW) + LOW, 0.0, 1.0), (-1, self.num_networks))

    def _connect(self, x: tf.Tensor, level: int, training: bool) -> tf.Tensor:
        gates = self.connections(level, training)
        networks, units = self.num_networks, x.shape[-1]
        maps = ops.reshape(self.maps[level], (-1, networks, units, units))
        gated = ops.cast(gates, x.dtype)[:, :, None, None] * ops.cast(maps, x.dtype)
        # One product per reader: the networks' outputs side by side, times their maps one above another.
        beside = ops.reshape(ops.transpose(x, (1, 0, 2)), (-1, networks * units))
        return ops.matmul(beside[None], ops.reshape(gated, (-1, networks * units, units)))

    def auxiliary_loss(
        self, probabilities: Mapping[str, LogProbability], tasks: Sequence[Task], x: tf.Tensor
    ) -> tf.Tensor | None:
        if not self.l0:
            return None
        threshold = self.temperature * math.log(-LOW / HIGH)
        return self.l0 * tf.add_n([tf.reduce_sum(tf.sigmoid(alpha - threshold)) for alpha in self.log_alphas])
