"""What a look inside says of planted models: a wide part that does it all, constant gates, copied experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import contracts
import numpy as np
import pytest
from examples import model, randomise

from funrec.experiment.inside import look_inside
from funrec.models.backbones.cgc import CGC
from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.single_task import SingleTask
from funrec.models.model import MultiTaskModel
from funrec.models.wide.linear import Linear
from funrec.runs.diagnosis import inside_tables, nearly_another, network_share, unused_by
from funrec.training.gates import GateMeter

ROWS = contracts.nested_rows()


def look(built: MultiTaskModel) -> dict[str, Any]:
    return look_inside(built, ROWS, ROWS, seed=0)


def mmoe(**options: Any) -> MultiTaskModel:
    built = model(MMoE(3, (8,), dropout=0.3), contracts.INPUTS, contracts.TASKS, **options)
    randomise(built)
    return built


def kinds(built: MultiTaskModel, wide: str = "none") -> list[str]:
    found = nearly_another(look(built), GateMeter(built).measure(ROWS), "mmoe", wide)
    return [finding.message for finding in found]


def test_a_healthy_model_is_what_its_name_says() -> None:
    assert kinds(mmoe()) == []
    assert kinds(mmoe(wide=Linear(1.0, l2=0.0)), "linear") == []


def test_a_wide_part_that_does_all_the_work_is_called_so() -> None:
    built = mmoe(wide=Linear(30.0, l2=0.0))
    built.towers.kernel.assign(0.01 * built.towers.kernel.numpy())
    (message, *_) = kinds(built, "linear")
    assert message.startswith("mmoe: ")
    assert "of click's" in message
    assert "this is the logistic regression" in message


def test_the_parts_of_a_logit_add_up_to_its_variance() -> None:
    built = mmoe(wide=Linear(1.0, l2=0.0))
    logits = built(contracts.batch_of(ROWS)).numpy()
    for part, logit in zip(look(built)["logits"], logits, strict=True):
        assert min(part["network"], part["wide"]) > 0
        total = part["network"] + part["wide"] + 2 * part["covariance"]
        assert total == pytest.approx(logit.var(), rel=1e-3)
        assert network_share(part) == pytest.approx((part["network"] / logit.var()) ** 0.5, rel=1e-3)


def test_gates_that_are_constants_are_called_so() -> None:
    built = mmoe()
    built.backbone.gates.kernel.assign(np.zeros(built.backbone.gates.kernel.shape))
    (message,) = kinds(built)
    assert "its gates are the same for every row and task" in message
    assert message.endswith("this is shared_bottom.")


def test_gates_that_differ_by_task_alone_are_a_fixed_mixture() -> None:
    """The number is the same in all rows, so a gate that reads nothing else is a constant of its task."""
    built = mmoe()
    kernel = np.zeros(built.backbone.gates.kernel.shape, np.float32)
    kernel[:, -1, :] = np.random.default_rng(0).normal(size=kernel[:, -1, :].shape)
    built.backbone.gates.kernel.assign(kernel)
    rows = contracts.nested_rows()
    rows.numeric[:] = 1.0
    inside = look_inside(built, rows, rows, seed=0)
    assert all(abs(cost) < 1e-6 for cost in inside["gate_costs"]["rows"].values())
    assert max(abs(cost) for cost in inside["gate_costs"]["rows_and_readers"].values()) > 1e-3
    (found,) = nearly_another(inside, GateMeter(built).measure(rows), "mmoe", "none")
    assert found.message.endswith("this is a network with a fixed mixture of experts.")


def test_an_expert_copied_with_its_units_permuted_is_found() -> None:
    built = mmoe()
    for variable in (*built.backbone.experts.kernels, *built.backbone.experts.biases):
        values = variable.numpy()
        values[2] = values[0][..., ::-1]
        variable.assign(values)
    (group,) = look(built)["experts"]
    similarity = np.asarray(group["similarity"])
    assert similarity[0, 2] == pytest.approx(1.0, abs=1e-6)
    assert similarity[0, 1] < 0.9


def test_a_task_whose_tower_is_shut_sends_no_gradient_and_nothing_changes() -> None:
    built = mmoe(batch_normalization=True)
    kernel = built.towers.kernel.numpy()
    kernel[1] = 0.0
    built.towers.kernel.assign(kernel)
    before = [variable.numpy() for variable in built.variables]
    norms = look(built)["shared_gradient_norms"]
    assert norms["like"] == 0
    assert min(norms["click"], norms["follow"]) > 0
    for old, variable in zip(before, built.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_nothing_shared_has_no_gradient_to_measure() -> None:
    built = model(SingleTask((8,), dropout=0.0), contracts.INPUTS, contracts.TASKS)
    assert look(built)["shared_gradient_norms"] == {}
    assert look(built)["gate_costs"] == {}


def test_a_shared_expert_that_one_task_alone_uses_is_told() -> None:
    built = model(CGC(1, 2, (8,), dropout=0.0), contracts.INPUTS, contracts.TASKS)
    kernel = np.zeros(built.backbone.levels[0].gates.kernel.shape, np.float32)
    kernel[1:, -1, 1] = -1000.0  # like and follow shut the first shared expert; the number is positive
    built.backbone.levels[0].gates.kernel.assign(kernel)
    rows = contracts.nested_rows()
    rows.numeric[:] = 1.0
    gates = GateMeter(built).measure(rows)
    unused = unused_by(gates)
    assert unused["", "shared_1"] == (["like", "follow"], 3)
    assert unused["", "shared_2"] == ([], 3)
    assert unused["", "click_specific_1"] == ([], 1)
    tables: Mapping[str, Any] = inside_tables(look_inside(built, rows, rows, seed=0), gates)
    (_, experts) = tables["Experts: the one most alike (linear CKA), and who reads them"]
    assert next(row for row in experts if row[0] == "shared_1")[-1] == "like, follow"
