"""DSelect-k's own mathematics (Hazimeh et al., NeurIPS 2021, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import Array, assert_close, built, mixture, network, of, randomised, softmax

from funrec.models.backbones.dselect_k import DSelectK
from funrec.models.layers.selectors import smooth_step
from funrec.utils.errors import InputError
from funrec.utils.specs import check


def step(z: Array, width: float) -> Array:
    inside = -2 / width**3 * z**3 + 3 / (2 * width) * z + 0.5
    return np.where(z <= -width / 2, 0.0, np.where(z >= width / 2, 1.0, inside))


def choices(backbone: DSelectK, tower: int, x: Array) -> list[Array]:
    bank = backbone.selectors
    z = x @ of(bank.choice, tower)
    found = []
    for place in range(bank.selectors):
        s = step(z[:, place * bank.bits : (place + 1) * bank.bits], bank.smoothness)
        weights = np.ones((len(x), 2**bank.bits))
        for expert in range(2**bank.bits):
            digits = f"{expert:0{bank.bits}b}"[::-1]
            for bit, digit in enumerate(digits):
                weights[:, expert] *= s[:, bit] if digit == "1" else 1 - s[:, bit]
        found.append(weights)
    return found


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize("per_row", [True, False])
def test_a_tower_mixes_the_choices_of_its_selectors(towers: int, per_row: bool) -> None:
    options: dict[str, Any] = {"per_row": per_row, "num_experts": 4, "expert_units": (8, 6), "dropout": 0.0}
    backbone, x = randomised(DSelectK(2, **options), towers)
    experts = [network(backbone.experts, e, x) for e in range(4)]
    expected = []
    for tower in range(towers):
        read = x if per_row else np.ones((len(x), 1))
        shares = softmax(read @ of(backbone.selectors.mixture, tower))
        weights = sum(shares[:, [place]] * r for place, r in enumerate(choices(backbone, tower, read)))
        expected.append(mixture(weights, experts))
    assert_close(backbone(x), expected)


def test_the_entropy_of_all_choices_is_added_to_the_loss() -> None:
    backbone, x = randomised(DSelectK(2, num_experts=4, entropy=0.5, dropout=0.0), towers=2)
    r = np.stack([choices(backbone, tower, x) for tower in range(2)])  # (towers, selectors, batch, experts)
    logs = np.log(np.where(r > 0, r, 1))
    expected = 0.5 * -(r * logs).sum(axis=(0, 1, 3)).mean()
    assert float(backbone.auxiliary_loss({}, (), x)) == pytest.approx(expected, rel=1e-4)


def test_selectors_far_from_zero_take_one_expert_each() -> None:
    backbone, x = built(DSelectK(2, num_experts=8, per_row=False, dropout=0.0), towers=3)
    backbone.selectors.choice.assign(np.sign(backbone.selectors.choice.numpy()))
    weights = backbone.select(x).weights.numpy()
    assert ((weights > 0).sum(axis=-1) <= 2).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-6)


def test_the_step_is_flat_at_its_ends_and_half_way_between() -> None:
    np.testing.assert_allclose(smooth_step(np.float32([-9, -1, 0, 1, 9]), 2.0), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_a_step_is_never_outside_0_and_1_by_rounding() -> None:
    step = smooth_step(np.linspace(-0.51, 0.51, 100_000, dtype=np.float32), 1.0).numpy()
    assert step.min() == 0
    assert step.max() == 1


@pytest.mark.parametrize("number", [1, 6])
def test_a_number_of_experts_that_is_no_power_of_two_is_refused(number: int) -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.num_experts should be a power of two, 2 or more\. Rec"):
        check(DSelectK, {"num_experts": number}, "model.backbone")
