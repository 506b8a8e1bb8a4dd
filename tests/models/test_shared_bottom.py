"""Shared bottom's own mathematics."""

from __future__ import annotations

import numpy as np
import pytest
from examples import model, randomise, rich_batch, rich_layout

from funrec.models.backbones.shared_bottom import SharedBottom
from funrec.utils.errors import InputError
from funrec.utils.specs import check


def test_logits_equal_a_network_with_a_tower_per_task_on_it() -> None:
    batch = rich_batch()
    built = model(SharedBottom((8, 4), activation="tanh", dropout=0.0), rich_layout(), tower_units=(6, 5))
    randomise(built)
    h = built.embed(batch).x.numpy()
    for kernel, bias in zip(built.backbone.bottom.kernels, built.backbone.bottom.biases, strict=True):
        h = np.tanh(h @ kernel.numpy()[0] + bias.numpy()[0])
    towers = built.towers
    for task in range(2):
        y = h
        for kernel, bias in zip(towers.hidden.kernels, towers.hidden.biases, strict=True):
            y = np.maximum(y @ kernel.numpy()[task] + bias.numpy()[task], 0)
        logit = (y @ towers.kernel.numpy()[task] + towers.bias.numpy()[task])[:, 0]
        np.testing.assert_allclose(built(batch)[task], logit, rtol=1e-4, atol=1e-4)


def test_every_tower_reads_the_same_representation() -> None:
    built = model(SharedBottom((8,)), rich_layout())
    x = built.embed(rich_batch()).x
    first, second = built.backbone(x).numpy()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(built.backbone.share(x)[0][0], first)


@pytest.mark.parametrize("options", [{"units": []}, {"units": [8, 0]}, {"dropout": -0.1}, {"activation": "rleu"}])
def test_impossible_sizes_are_refused(options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=rf"^model\.backbone\.{name} should .* Received: .*\.$"):
        check(SharedBottom, options, "model.backbone")
