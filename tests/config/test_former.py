"""What version 0.1 wrote is read as it would be written today."""

from __future__ import annotations

from typing import Any

import pytest

from funrec.config.compose import compose
from funrec.config.former import full_label, translate
from funrec.utils.errors import InputError


def former(backbone: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"model": {"_target_": "funrec.models.model.MultiTaskModel", "backbone": backbone, **options}, "seed": 3}


def test_a_linear_term_is_a_wide_part() -> None:
    parts = {"linear_term": True, "linear_scale": 10.0, "linear_l2": 0.5}
    model = translate(former({"_target_": "funrec.models.backbones.mmoe.MMoE"}, **parts))["model"]
    assert model["wide"] == {"_target_": "funrec.models.wide.linear.Linear", "scale": 10.0, "l2": 0.5}
    assert not set(parts) & set(model)
    logistic = translate(former({"_target_": "funrec.models.backbones.logistic.Logistic"}, **parts))["model"]
    assert logistic["backbone"]["l2"] == 0.5
    without = translate(former({"_target_": "funrec.models.backbones.mmoe.MMoE"}, **(parts | {"linear_term": False})))
    assert without["model"]["wide"]["_target_"].endswith("NoWide")


def test_a_configuration_of_today_is_left_alone() -> None:
    config = compose([])
    assert translate(config) == config


def test_a_former_key_is_pointed_to_what_came_in_its_place() -> None:
    with pytest.raises(InputError, match=r"^model\.linear_term: no such key\. It has moved: use model/wide=linear"):
        compose(["model.linear_term=false"])


def test_a_label_gains_the_linear_part_where_version_0_1_left_it_out_and_nowhere_else() -> None:
    backbone = {"_target_": "funrec.models.backbones.mmoe.MMoE"}
    assert full_label("mmoe", former(backbone, linear_term=True)) == "mmoe + linear"
    assert full_label("mmoe", former(backbone, linear_term=False)) == "mmoe"
    assert full_label("logistic", former(backbone, linear_term=True)) == "logistic"
    wide = {"_target_": "funrec.models.wide.linear.Linear"}
    assert full_label("gbdt", {"model": {"_target_": "funrec.experiment.gbdt.BoostedTrees", "wide": wide}}) == "gbdt"
