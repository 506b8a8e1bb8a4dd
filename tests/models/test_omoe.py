"""OMoE's own mathematics (Ma et al., KDD 2018, eq. 1-2)."""

from __future__ import annotations

import numpy as np
import pytest
from reference import assert_close, built, gate, mixture, network

from funrec.models.backbones.omoe import OMoE


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize("gate_units", [(), (5,)], ids=["linear gate", "hidden gate"])
def test_every_tower_reads_the_one_mixture_of_the_experts(towers: int, gate_units: tuple[int, ...]) -> None:
    backbone, x = built(OMoE(num_experts=3, expert_units=(8, 4), gate_units=gate_units, dropout=0.0), towers)
    experts = [network(backbone.experts, expert, x) for expert in range(3)]
    expected = mixture(gate(backbone.gate, 0, x), experts)
    assert_close(backbone(x), np.repeat(expected[None], towers, axis=0))


def test_the_gate_is_shared_where_mmoes_is_not() -> None:
    backbone, x = built(OMoE(num_experts=3, expert_units=(8,), dropout=0.0), towers=2)
    (gates,) = backbone.gates_of(x)
    assert gates.readers == ("shared",)
