"""PEPNet's own mathematics (Chang et al., KDD 2023, eq. 1-8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
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


def test_what_gates_read_of_the_features_has_no_gradient() -> None:
    backbone, x = randomised(PEPNet((6,), 5, priors=["item"], dropout=0.0), 1, domain="user")
    with tf.GradientTape() as tape:
        read = tf.constant(x)
        tape.watch(read)
        total = tf.reduce_sum(backbone(read))
    features, embeddings = x[:, :8].astype(np.float64), x[:, 8:].astype(np.float64)
    outer = gate(backbone.domain_gate, 0, np.concatenate([embeddings[:, :4], features], axis=1))
    inner = gate(backbone.gates[0], 0, np.concatenate([embeddings[:, 4:], outer * features], axis=1))
    kernel, bias = (
        of(part[0], 0) for part in (backbone.layers_of_towers[0].kernels, backbone.layers_of_towers[0].biases)
    )
    is_active = (outer * inner * features) @ kernel + bias > 0
    assert_close(tape.gradient(total, read)[:, :8], is_active @ kernel.T * inner * outer)


def test_a_prior_that_is_no_feature_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.priors .* Received: usr\. Did you mean user\?"):
        model(PEPNet(priors=["usr"]), layout({"user": 5, "item": 6}, domain="user"))
