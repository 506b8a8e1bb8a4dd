"""DSelect-k: a mixture of experts whose gates select few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import tensorflow as tf

from funrec.models.backbones.base import Gates
from funrec.models.backbones.mmoe import MMoE
from funrec.models.funnels.base import LogProbability
from funrec.models.layers.experts import as_gates, drop_experts
from funrec.models.layers.selectors import Selection, SelectorBank
from funrec.schema import Task
from funrec.utils.specs import Inherited, NotNegative, PositiveInt, PositiveNumber, worded

PowerOfTwo = Annotated[int, worded("a power of two, 2 or more", lambda number: number > 1 and number.bit_count() == 1)]


class DSelectK(MMoE):
    """MMoE whose gates are sparse: each takes at most `num_selected` experts, chosen by gradient descent.

    `h_t = sum_e q_t(x)_e * expert_e(x)`, with `q_t` a mixture of `num_selected` smooth one-hot choices: see
    `funrec.models.layers.selectors.SelectorBank`   (Hazimeh et al., NeurIPS 2021, eq. 3-6)

    `entropy * mean(H(r))`, summed over towers and choices, is added to the loss (section 3.2): it pushes the choices to
    one expert each. All experts are computed, as in MMoE: the gates are sparse, the arithmetic is not.

    Args:
        num_selected: Choices of a gate, the paper's `k`.
        per_row: Whether choices depend on the row; if not, every tower selects once, the paper's static gate.
        smoothness: Width of the smooth step, the paper's `gamma`.
        entropy: Weight of the entropy of the choices.
        num_experts: Number of experts.
    """

    paper = "Hazimeh et al., NeurIPS 2021"

    def __init__(
        self,
        num_selected: PositiveInt = 2,
        per_row: bool = True,
        smoothness: PositiveNumber = 1.0,
        entropy: NotNegative = 0.001,
        num_experts: PowerOfTwo = 8,
        **experts: Inherited,
    ) -> None:
        super().__init__(num_experts=num_experts, **experts)
        self.num_selected = num_selected
        self.per_row = per_row
        self.smoothness = smoothness
        self.entropy = entropy

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.experts = self.bank(self.num_experts, self.expert_units)
        bits = self.num_experts.bit_length() - 1
        selection = (self.num_towers, bits, self.num_selected, self.per_row, self.smoothness)
        network = (self.gate_units, self.activation, self.dropout)
        self.selectors = SelectorBank(*selection, *network, dtype=self.dtype_policy)
        self.experts.build(input_shape)
        self.selectors.build(input_shape)

    def select(self, x: tf.Tensor, training: bool = False) -> Selection:
        """Return what the gates take of a batch."""
        selection: Selection = self.selectors(x, training=training)
        return selection

    def share(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        weights = self.select(x, training).weights
        if training and self.gate_dropout:
            weights = drop_experts(weights, self.gate_dropout)
        return self.experts(x, training=training), as_gates(weights)

    def gates_of(self, x: tf.Tensor) -> list[Gates]:
        return [Gates("", self.structure.towers, self.expert_names, as_gates(self.select(x).weights), self.num_experts)]

    def auxiliary_loss(
        self, probabilities: Mapping[str, LogProbability], tasks: Sequence[Task], x: tf.Tensor
    ) -> tf.Tensor | None:
        balance = super().auxiliary_loss(probabilities, tasks, x)
        if not self.entropy:
            return balance
        choices = tf.cast(self.select(x).choices, tf.float32)  # (towers, batch, selected, experts)
        by_row = -tf.reduce_sum(tf.math.xlogy(choices, choices), axis=(0, 2, 3))
        entropy = self.entropy * tf.reduce_mean(by_row)
        return entropy if balance is None else entropy + balance
