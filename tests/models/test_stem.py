"""STEM's own mathematics (Su et al., AAAI 2024, section 4): all forward, task-specific backward."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from examples import structure
from reference import assert_close, built, gate, mixture, network

from funrec.models.backbones.stem import STEM


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_every_tower_mixes_the_experts_of_all(towers: int) -> None:
    backbone, x = built(STEM(2, 3, (8, 4), dropout=0.0), towers, copies=towers + 1)
    specific = [network(backbone.specific, 2 * k + e, x[k]) for k in range(towers) for e in range(2)]
    experts = specific + [network(backbone.shared, e, x[-1]) for e in range(3)]
    expected = [mixture(gate(backbone.gates, k, x[k] + x[-1]), experts) for k in range(towers)]
    assert_close(backbone(x), expected)


def test_a_tower_asks_for_embeddings_of_its_own_and_shared_ones() -> None:
    backbone = STEM()
    backbone.configure(structure(3))
    assert backbone.embedding_layout(None) == (4, None)


def test_a_loss_moves_its_own_and_the_shared_experts_and_embeddings_alone() -> None:
    backbone, x = built(STEM(2, 1, (8,), dropout=0.0), towers=3, copies=4)
    x = tf.constant(x)
    kernel = backbone.specific.kernels[0].value
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = backbone(x)[1]
    by_expert, by_embedding = tape.gradient(output, [kernel, x])
    moved = np.abs(by_expert.numpy()).max(axis=(1, 2)) > 0
    assert moved.tolist() == [False, False, True, True, False, False]
    assert (np.abs(by_embedding.numpy()).max(axis=(1, 2)) > 0).tolist() == [False, True, False, True]
