"""A look at the gates: what a collapse looks like from outside."""

from __future__ import annotations

import contracts
import numpy as np
import pytest
from examples import randomise

from funrec.runs.diagnosis import render_gates
from funrec.training.gates import GateMeter, gate_columns


def test_equal_weights_have_full_entropy_and_leave_no_expert_unused() -> None:
    model = contracts.build("mmoe", "independent")
    model.backbone.gates.kernel.assign(np.zeros(model.backbone.gates.kernel.shape))
    found = GateMeter(model).measure(contracts.nested_rows(rows=50))
    assert [gate["reader"] for gate in found] == ["click", "like", "follow"]
    for gate in found:
        experts = model.backbone.num_experts
        assert gate["weight"] == pytest.approx([1 / experts] * experts, rel=1e-5)
        assert gate["entropy"] == pytest.approx(1.0, rel=1e-5)
        assert gate["unused"] == [0.0] * experts


def test_a_collapsed_gate_shows_as_no_entropy_and_unused_experts() -> None:
    model = contracts.build("omoe", "independent")
    kernel = np.zeros(model.backbone.gate.kernel.shape, np.float32)
    kernel[0, -1, 2] = 1000.0  # the number, which is positive in these rows: expert 3 alone
    model.backbone.gate.kernel.assign(kernel)
    rows = contracts.nested_rows(rows=50)
    rows.numeric[:] = 1.0
    (gate,) = GateMeter(model).measure(rows)
    others = model.backbone.num_experts - 3
    assert gate["weight"] == pytest.approx([0, 0, 1] + [0] * others)
    assert gate["unused"] == [1.0, 1.0, 0.0] + [1.0] * others
    assert gate["entropy"] == pytest.approx(0.0, abs=1e-6)


def test_means_are_those_of_the_gates_rows() -> None:
    model = contracts.build("ple", "esmm")
    randomise(model)
    rows = contracts.nested_rows(rows=50)
    found = GateMeter(model).measure(rows)
    groups = model.backbone.gates_of(model.embed(contracts.batch_of(rows)).x)
    expected = [(g.name, reader, w) for g in groups for reader, w in zip(g.readers, g.weights.numpy(), strict=True)]
    assert [(gate["gate"], gate["reader"]) for gate in found] == [(name, reader) for name, reader, _ in expected]
    for gate, (_, _, weights) in zip(found, expected, strict=True):
        np.testing.assert_allclose(gate["weight"], weights.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(gate["unused"], (weights < 0.1 / weights.shape[1]).mean(axis=0), rtol=1e-5)
        entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=1).mean() / np.log(weights.shape[1])
        assert gate["entropy"] == pytest.approx(entropy, rel=1e-4)


def test_a_backbone_without_gates_has_none_to_show() -> None:
    found = GateMeter(contracts.build("shared_bottom", "independent")).measure(contracts.nested_rows(rows=50))
    assert found == []
    assert gate_columns(found) == {}
    assert render_gates(found) == "This backbone has no gates."


def test_a_history_gets_a_column_per_gate_expert_and_figure() -> None:
    gate = {"gate": "level_1", "reader": "click", "experts": ["a", "b"], "weight": [0.9, 0.1], "unused": [0.0, 0.4]}
    columns = gate_columns([{**gate, "entropy": 0.5}, {**gate, "gate": "", "entropy": 0.6}])
    assert columns["gate.click.level_1.a.weight"] == 0.9
    assert columns["gate.click.b.unused"] == 0.4
    assert columns["gate.click.entropy"] == 0.6
    assert len(columns) == 10


def test_the_table_names_every_gate_once() -> None:
    gate = {"gate": "", "reader": "click", "experts": ["a", "b"], "weight": [0.9, 0.1], "unused": [0.0, 0.4]}
    lines = render_gates([{**gate, "entropy": 0.5}, {**gate, "reader": "like", "entropy": 0.25}]).splitlines()
    assert lines[0].split() == ["gate", "of", "entropy", "expert", "weight", "unused"]
    assert [line.split() for line in lines[2:]] == [
        ["click", "0.500", "a", "0.900", "0.000"],
        ["b", "0.100", "0.400"],
        ["like", "0.250", "a", "0.900", "0.000"],
        ["b", "0.100", "0.400"],
    ]
