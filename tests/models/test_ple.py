"""CGC's and PLE's own mathematics (Tang et al., RecSys 2020, eq. 1-6): what each stream reads, at every level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import WIDTH, Array, assert_close, built, gate, mixture, network

from funrec.models.backbones.cgc import CGC
from funrec.models.backbones.ple import PLE
from funrec.utils.errors import InputError
from funrec.utils.specs import check


def ple(levels: int, specific: int, shared: int, units: tuple[int, ...], **options: Any) -> PLE:
    return PLE(num_levels=levels, num_specific=specific, num_shared=shared, expert_units=units, **options)


def equations(backbone: CGC, x: Array) -> Array:
    """Return every tower's output, `(towers, batch, units)`, stream by stream."""
    towers, own = backbone.num_towers, backbone.num_specific
    streams, shared_stream = [x] * towers, x
    for number, level in enumerate(backbone.levels):
        specific = [
            [network(level.specific, tower * own + expert, streams[tower]) for expert in range(own)]
            for tower in range(towers)
        ]
        shared = [network(level.shared, expert, shared_stream) for expert in range(backbone.num_shared)]
        after = [mixture(gate(level.gates, k, streams[k]), specific[k] + shared) for k in range(towers)]
        if number < len(backbone.levels) - 1:
            every = [expert for experts in specific for expert in experts]
            shared_stream = mixture(gate(level.shared_gate, 0, shared_stream), every + shared)
        streams = after
    return np.stack(streams)


@pytest.mark.parametrize("towers", [1, 2, 5])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("gate_units", [(), (5,)], ids=["linear gates", "hidden gates"])
def test_the_output_equals_the_papers_equations(towers: int, levels: int, gate_units: tuple[int, ...]) -> None:
    backbone, x = built(ple(levels, 2, 3, (8, 6), gate_units=gate_units, dropout=0.0), towers)
    assert_close(backbone(x), equations(backbone, x))


@pytest.mark.parametrize("towers", [1, 2, 5])
def test_cgc_is_one_level_of_ple(towers: int) -> None:
    cgc, x = built(CGC(2, 1, (8,), dropout=0.0), towers)
    one_level, _ = built(ple(1, 2, 1, (8,), dropout=0.0), towers)
    assert_close(cgc(x), equations(cgc, x))
    np.testing.assert_array_equal(cgc(x), one_level(x))


@pytest.mark.parametrize(
    ("towers", "levels", "own", "shared"), [(1, 1, 1, 1), (2, 1, 2, 3), (5, 3, 2, 1), (3, 2, 2, 2)]
)
def test_the_number_of_parameters_is_that_of_the_papers_equations(
    towers: int, levels: int, own: int, shared: int
) -> None:
    units = (8, 6)
    backbone, _ = built(ple(levels, own, shared, units), towers)
    expected, width = 0, WIDTH
    for level in range(levels):
        expert = (width + 1) * units[0] + (units[0] + 1) * units[1]
        expected += (towers * own + shared) * expert  # E_k and E_s
        expected += towers * width * (own + shared)  # W_k, one row per expert that tower k selects among
        if level < levels - 1:
            expected += width * (towers * own + shared)  # W_s selects among all; the last level has none
        width = units[-1]
    assert backbone.count_params() == expected


def zero_specific_experts(backbone: PLE, level: int, tower: int) -> None:
    own = backbone.num_specific
    for variable in backbone.levels[level].specific.trainable_variables:
        values = variable.numpy()
        values[tower * own : (tower + 1) * own] = 0
        variable.assign(values)


def test_at_the_last_level_a_tower_reads_no_other_towers_experts() -> None:
    backbone, x = built(ple(2, 2, 1, (8,), dropout=0.0), towers=3)
    before = backbone(x).numpy()
    zero_specific_experts(backbone, level=1, tower=0)
    after = backbone(x).numpy()
    np.testing.assert_array_equal(after[1:], before[1:])
    assert (after[0] != before[0]).any()


def test_below_it_other_towers_experts_come_through_the_shared_stream() -> None:
    backbone, x = built(ple(2, 2, 1, (8,), dropout=0.0), towers=3)
    before = backbone(x).numpy()
    zero_specific_experts(backbone, level=0, tower=0)
    after = backbone(x).numpy()
    assert all((after[tower] != before[tower]).any() for tower in range(3))
    for variable in backbone.levels[1].shared.trainable_variables:  # and through nothing else
        variable.assign(np.zeros(variable.shape))
    without_shared = backbone(x).numpy()
    backbone_again, _ = built(ple(2, 2, 1, (8,), dropout=0.0), towers=3)
    for variable in backbone_again.levels[1].shared.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    np.testing.assert_array_equal(backbone_again(x).numpy()[1:], without_shared[1:])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PLE, {"num_levels": 0}),
        (PLE, {"num_specific": 0}),
        (PLE, {"num_shared": 0}),
        (PLE, {"expert_units": []}),
        (CGC, {"num_shared": 0}),
        (CGC, {"gate_units": [0]}),
    ],
)
def test_zero_levels_or_experts_are_refused(kind: type, options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=rf"^model\.backbone\.{name} should be .* Received: .*\.$"):
        check(kind, options, "model.backbone")
