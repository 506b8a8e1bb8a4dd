"""Progressive layered extraction: customized gate control, level upon level."""

from __future__ import annotations

from funrec.models.backbones.cgc import CGC
from funrec.utils.specs import Inherited, PositiveInt


class PLE(CGC):
    """Shared and task-specific experts at every level, separated step by step.

    Every level has `num_specific` experts per tower and `num_shared` for all. Level `j` reads what the gates of level
    `j - 1` made, each stream its own: tower `k`'s experts and gate read

        g_k,j(x) = softmax(W_k,j g_k,j-1(x)) [E_k, E_s]      (Tang et al., RecSys 2020, eq. 5-6)

    and the shared experts and the shared gate read the shared stream, in which the gate mixes the experts of *all*
    towers. The last level has no shared gate; one level is CGC.

    Args:
        num_levels: Number of levels.
        **experts: See `CGC`; a level has so many.
    """

    def __init__(self, num_levels: PositiveInt = 2, **experts: Inherited) -> None:
        super().__init__(**experts)
        self.num_levels = num_levels
