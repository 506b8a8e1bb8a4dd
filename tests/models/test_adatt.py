"""AdaTT's own mathematics (Li et al., KDD 2023, section 3)."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Array, assert_close, gate, mixture, network, randomised

from funrec.models.backbones.adatt import AdaTT


def equations(backbone: AdaTT, x: Array, own: int, shared: int, levels: int) -> Array:
    towers = backbone.num_towers
    sizes = [own] * towers + ([shared] if shared else [])
    streams = [x] * len(sizes)
    for number, level in enumerate(backbone.levels):
        owner = [stream for stream, size in enumerate(sizes) for _ in range(size)]
        experts = [network(level.experts, e, streams[owner[e]]) for e in range(len(owner))]
        after = []
        for stream in range(towers if number == levels - 1 else len(sizes)):
            fused = mixture(gate(level.gates, stream, streams[stream]), experts)
            native = [expert for e, expert in enumerate(experts) if owner[e] == stream]
            learned = level.weights_of_own[stream]
            v = np.ones(1) if learned is None else learned.numpy()
            after.append(fused + sum(weight * expert for weight, expert in zip(v, native, strict=True)))
        streams = after
    return np.stack(streams)


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize(("own", "shared", "levels"), [(2, 1, 3), (1, 0, 1)], ids=["AdaTT", "AdaTT-sp"])
def test_every_stream_fuses_all_experts_and_adds_its_own(towers: int, own: int, shared: int, levels: int) -> None:
    backbone, x = randomised(
        AdaTT(shared, num_levels=levels, num_specific=own, expert_units=(8, 6), dropout=0.0), towers
    )
    assert_close(backbone(x), equations(backbone, x, own, shared, levels))
