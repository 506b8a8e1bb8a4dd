"""PEPNet's own mathematics (Chang et al., KDD 2023, eq. 1-8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import layout, model
from reference import Array, assert_close, network, of, randomised, relu, sigmoid

from funrec.models.backbones.pepnet import PEPNet
from funrec.utils.errors import InputError


def gate(unit: Any, number: int, x: Array) -> Array:
    return 2 * sigmoid(network(unit.hidden, number, x) @ of(unit.kernel, number) + of(unit.bias, number))


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_gates_of_domain_and_priors_multiply_what_is_read_and_every_layers_input(towers: int) -> None:
    backbone, x = randomised(PEPNet((8, 6), 5, priors=["item"], dropout=0.0), towers, domain="user")
    features, embeddings = x[:, :8].astype(np.float64), x[:, 8:].astype(np.float64)
    np.testing.assert_array_equal(features, embeddings)  # nothing crosses them here
    domain, prior = embeddings[:, :4], embeddings[:, 4:]
    read = gate(backbone.domain_gate, 0, np.concatenate([domain, features], axis=1)) * features
    knows = np.concatenate([prior, read], axis=1)
    expected = []
    for tower in range(towers):
        h = read
        for unit, layer in zip(backbone.gates, backbone.layers_of_towers, strict=True):
            h = gate(unit, tower, knows) * h
            h = relu(h @ of(layer.kernels[0], tower) + of(layer.biases[0], tower))
        expected.append(h)
    assert_close(backbone(x), expected)


def test_a_prior_that_is_no_feature_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.priors .* Received: usr\. Did you mean user\?"):
        model(PEPNet(priors=["usr"]), layout({"user": 5, "item": 6}, domain="user"))
