"""What all backbones with gates can be asked for: dropped experts, and experts used alike."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from reference import built, trained

from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.ple import PLE
from funrec.models.layers.experts import drop_experts
from funrec.models.layers.randomness import random_sites


def test_a_gate_that_loses_experts_gives_their_weight_to_the_others_in_proportion() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 5000)).astype(np.float32)
    with random_sites(0, 0):
        dropped = drop_experts(tf.constant(weights), 0.25).numpy()
    np.testing.assert_allclose(dropped.sum(axis=-1), 1.0, rtol=1e-5)
    lost = dropped == 0
    expected = 0.25 * (1 - 0.25**3)  # a row that would lose all four keeps them
    assert lost.mean() == pytest.approx(expected, abs=4 * (0.19 / lost.size) ** 0.5)
    kept = np.where(lost, 0, weights)
    np.testing.assert_allclose(dropped, kept / kept.sum(axis=-1, keepdims=True), rtol=1e-4)


def test_the_balance_is_the_squared_coefficient_of_variation_of_every_experts_importance() -> None:
    backbone, x = built(PLE(num_levels=2, load_balance=0.5, dropout=0.0), towers=2)
    expected = 0.0
    for gates in backbone.gates_of(x):
        importance = gates.weights.numpy().sum(axis=(0, 1))
        expected += 0.5 * importance.var() / importance.mean() ** 2
    assert float(backbone.auxiliary_loss({}, (), x)) == pytest.approx(expected, rel=1e-4)
    assert MMoE().auxiliary_loss({}, (), x) is None


def test_training_with_a_balance_uses_experts_more_alike() -> None:
    def unequal(load_balance: float) -> float:
        backbone, x = trained(MMoE(4, (8,), dropout=0.0, load_balance=load_balance), towers=2, steps=150, read=2000)
        (gates,) = backbone.gates_of(x)
        importance = gates.weights.numpy().mean(axis=(0, 1))
        return float(importance.var() / importance.mean() ** 2)  # what the penalty is on

    assert unequal(10.0) < 0.5 * unequal(0.0)
