"""Cross-stitch's own mathematics (Misra et al., CVPR 2016, eq. 1)."""

from __future__ import annotations

import numpy as np
import pytest
from examples import structure
from reference import assert_close, built, network

from funrec.models.backbones.cross_stitch import CrossStitch
from funrec.models.layers.randomness import random_sites
from funrec.utils.errors import InputError
from funrec.utils.specs import check


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize("units", [(8,), (8, 6, 4)], ids=["one layer", "three layers"])
def test_after_every_layer_each_network_reads_a_combination_of_all(towers: int, units: tuple[int, ...]) -> None:
    backbone, x = built(CrossStitch(units, scale=2.0, dropout=0.0), towers)
    streams = [x] * towers
    for bank, stitch in zip(backbone.banks, backbone.stitches, strict=True):
        layer = [network(bank, tower, streams[tower]) for tower in range(towers)]
        alpha = 2.0 * stitch.numpy()  # (towers, networks, units)
        streams = [sum(alpha[i, j] * layer[j] for j in range(towers)) for i in range(towers)]
    assert_close(backbone(x), streams)


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_units_start_as_a_convex_combination_that_favours_the_towers_own_network(towers: int) -> None:
    backbone = CrossStitch((8,), same_task=0.9, scale=100.0)
    backbone.configure(structure(towers))
    with random_sites(0, -1):
        backbone.build((None, 4))
    alpha = backbone.stitches[0].numpy() * 100.0
    np.testing.assert_allclose(alpha.sum(axis=1), 1.0, rtol=1e-6)
    own = alpha[np.arange(towers), np.arange(towers)]
    np.testing.assert_allclose(own, 0.9 if towers > 1 else 1.0, rtol=1e-6)


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.same_task should be .* Received: 1\.5\.$"):
        check(CrossStitch, {"same_task": 1.5}, "model.backbone")
