"""STAR's own mathematics (Sheng et al., CIKM 2021, eq. 3-7)."""

from __future__ import annotations

import numpy as np
import pytest
from examples import layout, model, structure
from reference import assert_close, network, of, randomised, relu

from funrec.models.backbones.aitm import AITM
from funrec.models.backbones.star import STAR
from funrec.models.layers.randomness import random_sites
from funrec.utils.errors import InputError


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_a_row_goes_through_the_shared_weights_times_its_domains(towers: int) -> None:
    star, x = randomised(STAR((8, 6), (4,), momentum=0.5, dropout=0.0), towers, domain="user")
    features, domain = x[:, :-19].astype(np.float64), x[:, -19:].argmax(axis=1)
    expected = []
    for row, p in zip(features, domain, strict=True):
        scale = star.gamma.numpy()[0] * of(star.domain_gamma, p)
        h = scale * (row - of(star.mean, p)) / np.sqrt(of(star.variance, p) + 1e-3)
        h = h + star.beta.numpy()[0] + of(star.domain_beta, p)
        for layer, kernel in enumerate(star.kernels):
            bias = star.biases[layer].numpy()[0] + of(star.domain_biases[layer], p)
            h = relu(h @ (kernel.numpy()[0] * of(star.domain_kernels[layer], p)) + bias)
        expected.append(h)
    expected = np.concatenate([expected, network(star.auxiliary, 0, x)], axis=1)
    assert_close(star(x), [expected] * towers)


def test_a_domains_rows_are_normalised_by_themselves_and_move_its_averages_alone() -> None:
    star = STAR((8,), (), momentum=0.0, dropout=0.0)
    star.configure(structure(2, domain="tab", num_domains=3))
    draw = np.random.default_rng(0)
    domain = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    x = draw.normal(size=(6, 5)).astype(np.float32)
    with random_sites(0, -1):
        star(np.concatenate([x, domain], axis=1))
    normal = star._normalise(x, domain, training=True).numpy()
    for rows in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(
            normal[rows], (x[rows] - x[rows].mean(0)) / np.sqrt(x[rows].var(0) + 1e-3), atol=1e-5
        )
    np.testing.assert_allclose(star.mean.numpy()[:2], [x[:3].mean(0), x[3:].mean(0)], atol=1e-6)
    np.testing.assert_array_equal(star.mean.numpy()[2], 0)
    np.testing.assert_array_equal(star.variance.numpy()[2], 1)


def test_without_a_domain_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"^dataset\.domain should name a column for model\.backbone=star\. Received"):
        STAR().configure(structure(2))


def test_a_backbone_that_wraps_it_hands_the_domain_on() -> None:
    inner = {"_target_": "funrec.models.backbones.star.STAR", "units": [8], "auxiliary_units": []}
    inputs = layout({"user": 5, "item": 6}, domain="user")
    wrapped = model(AITM(inner, (4,)), inputs)
    batch = {"ids": np.int32([[1, 1], [2, 1]]), "sequences": {}}
    before = wrapped(batch).numpy()
    kernel = wrapped.backbone.inner.domain_kernels[0]
    kernel.assign(kernel.numpy() * np.float32([2, 1, 1, 1]).reshape(4, 1, 1))  # user 1 is the first domain
    after = wrapped(batch).numpy()
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert (after[:, 0] != before[:, 0]).any()
