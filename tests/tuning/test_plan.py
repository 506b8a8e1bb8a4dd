"""What a command asks a tuner for, and what is refused before anything trains."""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from funrec.config.compose import compose
from funrec.metrics import standard_metrics
from funrec.metrics.ranking import NDCGAtK
from funrec.schema import Task
from funrec.tuning.api import check_plan
from funrec.tuning.plan import differences, make_plan, read_plan, read_settings, reported_metrics
from funrec.tuning.space import Choices, Range
from funrec.utils.errors import InputError

RATE = "optimizer.learning_rate"
SEARCHES = sorted(
    file.name.removesuffix(".yaml")
    for file in files("funrec.conf").joinpath("search").iterdir()
    if ".yaml" in file.name
)


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_of_ours_fits_its_model_and_holds_its_defaults(search: str) -> None:
    plan = make_plan([f"model={search}" if search != "default" else "model=stem"])
    assert plan.search == search
    assert plan.notes == []
    check_plan(plan)


def test_a_model_without_a_search_of_its_own_gets_the_default() -> None:
    assert make_plan(["model=esmm"]).search == "default"


def test_the_starting_configuration_is_that_of_an_ordinary_run() -> None:
    overrides = ["model=ple", "trainer=smoke", "dataset.rows=3000"]
    plan = make_plan([*overrides, "search.trials=7"])
    assert plan.fixed == overrides
    assert plan.config == compose(overrides)
    assert compose(plan.overrides({})) == compose(overrides)
    assert plan.settings.trials == 7


def test_a_trial_differs_in_its_values_and_says_what_they_were_chosen_on() -> None:
    plan = make_plan([])
    tuned = compose(plan.overrides({RATE: 0.002}))
    assert tuned == compose([f"{RATE}=0.002"]) | {"tuned_on": "valid"}


def test_a_space_is_changed_from_the_command_line() -> None:
    plan = make_plan(
        [
            "~search.space.model.tower_dropout",
            f"search.space.{RATE}.high=0.5",
            "search.space.model.tower_units={choices: [[32], [8]]}",
            "+search.space.weighting={choices: [fixed, uncertainty]}",
        ]
    )
    assert "model.tower_dropout" not in plan.space
    assert plan.space[RATE] == Range(2e-4, 0.5, None, True)
    assert plan.space["model.tower_units"] == Choices(([32], [8]))
    assert plan.start["weighting"] == "fixed"


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(InputError, match="at least one key"):
        make_plan(["search.space=null"])


def test_a_search_of_ones_own_is_found_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNREC_CONFIG_DIR", str(tmp_path))
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text("trials: 4\nspace:\n  model.tower_dropout: {low: 0.0, high: 0.9}\n")
    plan = make_plan(["search=mine"])
    assert (plan.settings.trials, list(plan.space)) == (4, ["model.tower_dropout"])


def test_a_starting_value_outside_of_the_choices_joins_them() -> None:
    plan = make_plan(["search.space.model.tower_units.choices=[[8], [16]]"])
    assert plan.space["model.tower_units"] == Choices(([32], [8], [16]))
    assert "also gets [32]" in plan.notes[0]


def test_a_starting_value_outside_of_its_range_is_said() -> None:
    plan = make_plan([f"search.space.{RATE}.low=0.004"])
    assert plan.notes == [f"{RATE} starts from 0.003, outside of its range."]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trails": 3}, "search.trails: no such key. Did you mean trials?"),
        ({"trials": 0}, "search.trials should be a positive whole number. Received: 0."),
        ({"trials": 2.5}, "search.trials should be a positive whole number"),
        ({"trials": True}, "search.trials should be a positive whole number"),
        ({"workers": 0}, "search.workers should be a positive whole number"),
        ({"seed": -1}, "search.seed should be a whole number of at least 0"),
        ({"timeout": -1}, "search.timeout should be a positive number of seconds or null"),
        ({"storage": "study.db"}, "search.storage should be journal, a database's URL such as"),
        (
            {"sampler": "tpee"},
            "search.sampler should be one of tpe, random, grid, gp. Received: tpee. Did you mean tpe?",
        ),
        ({"pruner": "medain"}, "Did you mean median?"),
        ({"objectives": []}, "at least one metric"),
        ({"objectives": 3}, "at least one metric"),
        ({"objectives": {"auc_macro": "up"}}, "search.objectives.auc_macro should be one of max, min. Received: up."),
        ({"objectives": ["auc_macro", "auc_macro"]}, "once"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_settings(settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search=mmeo"], "search: there is no mmeo. Did you mean mmoe?"),
        (["search.sampler=grid"], "should have a step or choices, for a grid"),
        (["search.objectives=[auc_is_clik]"], "no run reports auc_is_clik. Did you mean auc_is_click?"),
        (["search.objectives=[auc_is_click@test]"], "metrics of the validation split"),
        ([f"{RATE}=0.1"], f"{RATE} should be fixed or searched. Received: both."),
        (["search.space.optimizer.learning_rat={low: 1, high: 2}"], "Did you mean optimizer.learning_rate?"),
        (["model=shared_bottom", "search=mmoe"], "search.space.model.backbone.num_experts: no such key"),
        (["search.space.seed={low: 1, high: 9}"], "should not be searched: it changes what is measured"),
        (["search.space.dataset.split.valid={low: 0.1, high: 0.5}"], "should not be searched"),
        (["search.space.optimizer.clipnorm={low: 1.0, high: 2.0}"], "should hold the value it starts from, null"),
        (["~search.space.model.tower_drop"], "no such key in the space. Did you mean model.tower_dropout?"),
        (["model=mmoe,ple"], "should give one value"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        make_plan(overrides)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_that_cannot_be_trained_with_is_refused_before_the_first_trial() -> None:
    for entry in ("model.backbone.dropout={low: 0.0, high: 1.5}", "model.backbone.num_experts={low: 0.5, high: 8.0}"):
        plan = make_plan([f"search.space.{entry}"])
        with pytest.raises(InputError, match=rf"^search\.space\.{entry.partition('=')[0]} should hold values that can"):
            check_plan(plan)


def test_a_gaussian_process_without_pytorch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funrec.tuning.plan.find_spec", lambda name: None)
    with pytest.raises(InputError, match="should find PyTorch"):
        make_plan(["search.sampler=gp"])


def test_directions_follow_the_names_of_metrics() -> None:
    plan = make_plan(["search.objectives=[auc_is_click,log_loss_is_like,ece_is_like]"])
    assert plan.settings.objectives == {"auc_is_click": "max", "log_loss_is_like": "min", "ece_is_like": "min"}
    assert make_plan(["search.objectives={gauc_is_like: min}"]).settings.signs == [-1]


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["search.objectives=[auc_is_click,auc_is_like]"], "several"),
        (["search.objectives=[pr_auc_is_like]"], "at the end of a run"),
        (["trainer=smoke"], "one epoch"),
    ],
)
def test_what_cannot_be_pruned_is_not_and_says_so(overrides: list[str], note: str) -> None:
    plan = make_plan([*overrides, "search.pruner=median"])
    assert plan.settings.pruner == "none"
    assert note in plan.notes[-1]


def test_objectives_are_what_runs_report() -> None:
    measured = [*standard_metrics(), NDCGAtK(5)]
    names = reported_metrics((Task("click", "c"), Task("like", "l", after="click")), True, measured)
    assert {"auc_click", "gauc_macro", "ndcg_at_5_like", "auc_like_given_click", "ece_click"} <= set(names)
    assert not any(name.startswith(("val_user", "ratio")) for name in names)
    assert "gauc_macro" not in reported_metrics((Task("click", "c"),), False, measured)


def test_a_plan_is_kept_and_compared(tmp_path: Path) -> None:
    plan = make_plan(["trainer=smoke", "search.trials=3"])
    plan.write(tmp_path)
    assert dataclasses.replace(read_plan(tmp_path), notes=[]) == dataclasses.replace(plan, notes=[])
    assert differences(plan, make_plan(["trainer=smoke", "search.trials=9", "search.workers=2"])) == []
    other = make_plan(["trainer=smoke", f"search.space.{RATE}.high=0.5", "search.objectives=[auc_is_like]"])
    assert differences(plan, other)[0] == f"space.{RATE}.high was 0.005, is 0.5"
    assert any("objectives.auc_is_like" in found for found in differences(plan, other))
    assert differences(plan, make_plan(["trainer=smoke", "model.activation=elu"]))


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should be the folder of a study. Received: no study\.json there"):
        read_plan(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        read_plan(tmp_path)
