"""A constructor's annotations are what a configuration is checked against, and what it says is one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
import pytest

from funrec.utils.errors import InputError
from funrec.utils.specs import (
    ACTIVATIONS,
    Activation,
    Inherited,
    Names,
    PositiveInt,
    Rate,
    Units,
    between,
    check,
    spec_of,
    whole,
)


class Network:
    def __init__(self, activation: Activation = "relu", dropout: Rate = 0.5, layer: int = 1) -> None:
        self.activation, self.dropout = activation, dropout


class Experts(Network):
    def __init__(
        self,
        program: object,
        num_experts: PositiveInt,
        units: Units = (32,),
        names: Names = (),
        mode: Literal["soft", "hard"] | None = None,
        correlation: Annotated[float, between(-1, 1)] = 0.0,
        sines: Annotated[int, whole(0)] = 1,
        scales: dict[str, Rate] | None = None,
        pair: tuple[int, int] = (1, 2),
        plain: Sequence[int] = (),
        is_even: bool = False,
        dropout: Rate = 0.25,
        **network: Inherited,
    ) -> None:
        super().__init__(dropout=dropout, **network)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"num_experts": 0}, "num_experts should be a positive whole number. Received: 0."),
        ({"num_experts": True}, "num_experts should be a positive whole number. Received: True."),
        ({"num_experts": 2.5}, "num_experts should be a positive whole number. Received: 2.5."),
        ({"num_experts": "3"}, "num_experts should be a positive whole number. Received: 3."),
        ({"num_experts": None}, "num_experts should be a positive whole number. Received: null."),
        ({"units": [8, 0]}, "units should be a list of positive whole numbers. Received: [8, 0]."),
        ({"units": []}, "units should be a list of positive whole numbers. Received: []."),
        ({"units": 8}, "units should be a list of positive whole numbers. Received: 8."),
        ({"mode": "sotf"}, "mode should be one of soft, hard or null. Received: sotf. Did you mean soft?"),
        ({"mode": "none"}, "mode should be one of soft, hard or null. Received: none. There is: soft, hard."),
        ({"correlation": 2}, "correlation should be a number from -1 to 1. Received: 2."),
        ({"correlation": float("nan")}, "correlation should be a number from -1 to 1. Received: nan."),
        ({"sines": -1}, "sines should be a whole number of at least 0. Received: -1."),
        ({"scales": {"a": 1}}, "scales.a should be at least 0 and below 1. Received: 1."),
        ({"is_even": "flase"}, "is_even should be true or false. Received: flase."),
        ({"plain": [1, "a"]}, "plain.1 should be a whole number. Received: a."),
        ({"activation": "rleu"}, "activation should name a Keras activation such as relu or gelu. Received: rleu."),
        ({"dropout": 1}, "dropout should be at least 0 and below 1. Received: 1."),
        ({"drpout": 0.1}, "drpout: no such key. Did you mean dropout?"),
        ({"program": 1}, "program: no such key."),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_is_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        check(Experts, {"num_experts": 2, **values}, "model.backbone", given={"program"})
    assert str(refused.value).startswith(f"model.backbone.{line}")
    assert "\n" not in str(refused.value)


def test_a_value_that_must_be_given_is_named() -> None:
    with pytest.raises(InputError, match=r"^part\.num_experts should be given\. Received: nothing\.$"):
        check(Experts, {}, "part", given={"program"})


def test_lists_become_the_tuples_that_annotations_name() -> None:
    values = {"num_experts": 2, "units": [8, 4], "pair": [3, 4], "names": 101, "dropout": 0}
    expected = {"num_experts": 2, "units": (8, 4), "pair": (3, 4), "names": ("101",), "dropout": 0.0}
    assert check(Experts, values, "part", given={"program"}) == expected


def test_what_is_passed_on_to_the_base_class_is_part_of_the_spec_with_the_nearer_default() -> None:
    defaults = spec_of(Experts, frozenset({"program"})).defaults()
    assert (defaults["activation"], defaults["dropout"], defaults["layer"]) == ("relu", 0.25, 1)
    assert defaults["units"] == [32]
    assert "num_experts" not in defaults


def test_options_of_keras_layers_are_no_configuration_keys() -> None:
    from funrec.models.backbones.mmoe import MMoE

    assert not {"name", "trainable", "dtype"} & set(spec_of(MMoE).parameters)


def test_the_activations_are_those_of_keras() -> None:
    assert all(callable(keras.activations.get(name)) for name in ACTIVATIONS)
    assert {name for name in dir(keras.activations) if not name.startswith("_")} - ACTIVATIONS == {
        *("deserialize", "get", "serialize"),
    }
