"""HoME's own mathematics (Wang et al., 2024, section 3): groups, expert normalisation, feature gates and self-gates."""

from __future__ import annotations

import numpy as np
import pytest
from examples import structure
from reference import Array, assert_close, gate, mixture, of, randomised, sigmoid, softmax

from funrec.models.backbones.home import HoME
from funrec.utils.errors import InputError

GROUPS = {
    1: {"a": ["tower_1"]},
    2: {"a": ["tower_1"], "b": ["tower_2"]},
    5: {"a": ["tower_1", "tower_3"], "b": ["tower_2", "tower_4"]},  # the fifth is a group of its own
}


def expert(bank: object, features: object, number: int, x: Array) -> Array:
    """One normalised expert on the features that its own gate lets through."""
    if features is not None:
        width, maps = features.rank, features.maps
        low = x @ of(features.down, number)
        gates = [2 * sigmoid(low[:, m * width : (m + 1) * width] @ of(features.up[m], number)) for m in range(maps)]
        shares = softmax(x @ of(features.mixture, number)) if maps > 1 else np.ones((len(x), 1))
        x = x * sum(shares[:, [m]] * gates[m] for m in range(maps))
    for kernel, norm in zip(bank.kernels, bank.normalizations, strict=True):
        x = x @ of(kernel, number)
        scale = of(norm.gamma, number) / np.sqrt(of(norm.variance, number) + norm.epsilon)
        x = (x - of(norm.mean, number)) * scale + of(norm.beta, number)
        x = x * sigmoid(x)
    return x


def equations(home: HoME, x: Array) -> Array:
    n, groups = home.num_experts, len(home.group_names)
    meta = [[expert(home.meta, home.meta_features, o * n + e, x) for e in range(n)] for o in range(1 + groups)]
    every = [e for owner in meta for e in owner]
    z = [mixture(gate(home.shared_gate, 0, x), every)]
    z += [mixture(gate(home.group_gates, g, x), meta[0] + meta[1 + g]) for g in range(groups)]
    if home.self_gate is not None:
        for owner in range(1 + groups):
            scores = x @ of(home.self_gate, owner)
            z[owner] = z[owner] + mixture(softmax(scores) if n > 1 else sigmoid(scores), meta[owner])
    outputs = []
    for tower in range(home.num_towers):
        group = 1 + home.group_of[tower]
        read = [(0, z[0]), (group, z[group]), (1 + groups + tower, z[group])]
        experts = [expert(home.experts, home.features, o * n + e, source) for o, source in read for e in range(n)]
        outputs.append(mixture(gate(home.gates, tower, np.concatenate([z[group], z[0]], axis=1)), experts))
    return np.stack(outputs)


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize(("experts", "maps", "self_gates"), [(2, 2, True), (1, 1, True), (1, 0, False)])
def test_a_tower_reads_the_experts_of_all_of_its_group_and_its_own(
    towers: int, experts: int, maps: int, self_gates: bool
) -> None:
    backbone = HoME(experts, (8, 6), feature_gates=maps, rank=3, self_gates=self_gates, dropout=0.0)
    home, x = randomised(backbone, towers, groups=GROUPS[towers])
    assert home.group_of == {1: [0], 2: [0, 1], 5: [0, 1, 0, 1, 2]}[towers]
    assert_close(home(x), equations(home, x))


def test_a_task_in_two_groups_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^model\.groups should list a task once, for home\. Received: tower_1 in two"
    ):
        HoME().configure(structure(2, groups={"a": ("tower_1",), "b": ("tower_1", "tower_2")}))
