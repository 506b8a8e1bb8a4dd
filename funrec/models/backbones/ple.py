"""Progressive layered extraction: customized gate control, level upon level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from funrec.models.backbones.cgc import ExtractionBackbone


@keras.saving.register_keras_serializable(package="funrec")
class PLE(ExtractionBackbone):
    """Shared and task-specific experts at every level, separated step by step.

    Every level has `num_specific` experts per tower and `num_shared` for all. Level `j` reads what the gates of level
    `j - 1` made, each stream its own: tower `k`'s experts and gate read

        g_k,j(x) = softmax(W_k,j g_k,j-1(x)) [E_k, E_s]      (Tang et al., RecSys 2020, eq. 5-6)

    and the shared experts and the shared gate read the shared stream, in which the gate mixes the experts of *all*
    towers. The last level has no shared gate.

    Args:
        num_levels: Number of levels; one is CGC.
        num_specific: Experts of every tower's own, at every level.
        num_shared: Shared experts, at every level.
        expert_units: Hidden units of every expert, input side first.
        gate_units: Hidden units before each gate's softmax; empty is the paper's linear gate.
        activation: Activation of experts and gates.
        dropout: Dropout rate after every hidden layer of experts and gates.
        batch_normalization: Whether experts normalise before their activation.

    Input shape: `(batch, width)`.
    Output shape: `(towers, batch, expert_units[-1])`.

    Raises:
        InputError: If a size is not positive or the dropout rate is not in [0, 1).
    """

    paper = "Tang et al., RecSys 2020"

    def __init__(
        self,
        num_levels: int = 2,
        num_specific: int = 2,
        num_shared: int = 2,
        expert_units: Sequence[int] = (64,),
        gate_units: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.1,
        batch_normalization: bool = False,
        **layer: Any,
    ) -> None:
        network = (num_specific, num_shared, expert_units, gate_units, activation, dropout, batch_normalization)
        super().__init__(num_levels, *network, **layer)
