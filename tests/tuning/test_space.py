"""A search space: what it may say, what it draws, and how its values become overrides."""

from __future__ import annotations

from typing import Any

import pytest

from funrec.config.compose import compose, parse_override
from funrec.tuning.space import Choices, Range, grid_point, grid_size, read_space, to_override, write_space
from funrec.utils.errors import InputError

ENTRIES = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.backbone.num_experts": {"low": 2, "high": 8, "step": 2},
    "model.tower_units": {"choices": [[32], [64, 32]]},
}


def test_a_space_is_read_and_written_without_loss() -> None:
    space = read_space(ENTRIES)
    assert space["optimizer.learning_rate"] == Range(1e-4, 1e-2, None, True)
    assert space["model.tower_units"] == Choices(([32], [64, 32]))
    assert read_space(write_space(space)) == space


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "at least one key"),
        (None, "at least one key"),
        ({"a": 3}, "should be {low, high} or {choices}"),
        ({"a": {"low": 2, "high": 1}}, "low should be at most high"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "low should be above 0 where log is true"),
        ({"a": {"low": -1.0, "high": 1.0, "log": True}}, "above 0"),
        ({"a": {"low": 1, "hihg": 2}}, "search.space.a.hihg: no such key. Did you mean high?"),
        ({"a": {"low": 1}}, "search.space.a.high should be given"),
        ({"a": {"low": "x", "high": 2}}, "search.space.a.low should be a number"),
        ({"a": {"low": float("nan"), "high": 2}}, "low should be a number"),
        ({"a": {"low": 1, "high": 8, "step": 0}}, "step should be a positive whole number"),
        ({"a": {"low": 1, "high": 8, "step": 0.5}}, "step should be a positive whole number"),
        ({"a": {"low": 1, "high": 8, "step": 2, "log": True}}, "a step or log"),
        ({"a": {"low": 1, "high": 8, "log": "yes"}}, "true or false"),
        ({"a": {"choices": []}}, "at least one value"),
        ({"a": {"choices": "fixed"}}, "at least one value"),
        ({"a": {"choices": [[32], [32]]}}, "once"),
        ({"a": {"choices": [1, 2], "low": 1}}, "Received: both"),
    ],
)
def test_a_contradictory_space_is_refused_in_one_line(entries: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_space(entries)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.learning_rate", 0.0012345678901234567),
        ("optimizer.learning_rate", 1e-05),
        ("model.tower_units", [64, 32]),
        ("optimizer.clipnorm", None),
        ("model.batch_normalization", False),
        ("trainer.monitor", "auc_is_like"),
        ("trainer.monitor", "it's, a {strange} one=3"),
        ("trainer.monitor", "0.5"),
        ("trainer.monitor", "null"),
        ("dataset.features.tag", {"kind": "categorical", "embedding_dim": 4}),
    ],
)
def test_an_override_gives_back_the_value_to_the_last_digit(key: str, value: Any) -> None:
    parsed = parse_override(to_override(key, value))
    assert parsed == (key, value, False)
    assert type(parsed[1]) is type(value)


def test_a_run_gets_the_value_of_an_override() -> None:
    assert compose([to_override("model.tower_units", [64, 32])])["model"]["tower_units"] == [64, 32]


def test_a_grid_has_every_combination_once() -> None:
    space = read_space(
        {"a": {"low": 2, "high": 7, "step": 2}, "b": {"choices": ["x", "y"]}, "c": {"low": 1, "high": 2}}
    )
    points = [grid_point(space, place) for place in range(grid_size(space))]
    assert len(points) == 3 * 2 * 2
    assert len({tuple(point.values()) for point in points}) == len(points)
    assert {point["a"] for point in points} == {2, 4, 6}


def test_a_grid_over_a_step_of_decimals_reaches_its_end() -> None:
    space = read_space({"a": {"low": 0.1, "high": 0.3, "step": 0.1}})
    assert [grid_point(space, place)["a"] for place in range(grid_size(space))] == [0.1, 0.2, 0.3]


def test_a_grid_over_a_continuous_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"search.space.a should have a step or choices"):
        grid_size(read_space({"a": {"low": 0.0, "high": 1.0}}))


def test_a_drawn_value_is_short_and_stays_within_its_range() -> None:
    entry = Range(0.12342, 0.98768)
    assert entry.decode(0.55555555) == 0.5556
    assert entry.decode(0.12343) == 0.12342
    assert entry.decode(0.987675) == 0.98768


def test_choices_of_any_kind_keep_their_kind() -> None:
    entry = Choices((True, 1.5, None, "fixed", [64, 32]))
    assert [entry.decode(entry.encode(value)) for value in entry.values] == list(entry.values)
    assert entry.decode(entry.encode(True)) is True
