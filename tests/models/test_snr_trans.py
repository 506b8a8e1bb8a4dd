"""SNR-Trans's own mathematics (Ma et al., AAAI 2019, section 3)."""

from __future__ import annotations

import numpy as np
import pytest
from reference import assert_close, built, network, of, randomised, sigmoid

from funrec.models.backbones.snr_trans import SNRTrans
from funrec.models.layers.randomness import random_sites


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_every_reader_sums_gated_maps_of_all_sub_networks(towers: int) -> None:
    backbone, x = randomised(SNRTrans(3, (8, 6), dropout=0.0), towers)
    streams = [x.astype(np.float64)] * 3
    for level in range(2):
        u = [network(backbone.banks[level], j, streams[j]) for j in range(3)]
        z = np.clip(1.2 * sigmoid(backbone.log_alphas[level].numpy()) - 0.1, 0, 1)
        readers = towers if level == 1 else 3
        streams = [
            sum(z[3 * i + j] * (u[j] @ of(backbone.maps[level], 3 * i + j)) for j in range(3)) for i in range(readers)
        ]
    assert_close(backbone(x), streams)


def test_draws_are_open_as_often_as_the_penalty_expects() -> None:
    backbone, _ = built(SNRTrans(40, (4,), l0=1.0, temperature=0.6), towers=5)
    backbone.log_alphas[0].assign(np.full(200, 0.3))
    opened = []
    for step in range(50):
        with random_sites(0, step):
            z = backbone.connections(0, training=True).numpy()
        assert z.min() >= 0
        assert z.max() <= 1
        opened.append((z > 0).sum())
    expected = float(backbone.auxiliary_loss({}, (), None))
    share = expected / 200
    error = (share * (1 - share) / (200 * 50)) ** 0.5
    assert np.mean(opened) / 200 == pytest.approx(share, abs=4 * error)
