"""Every YAML composes, says what it is, and becomes an object of the right kind."""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples import layout

from funrec.config.build import build, resolve
from funrec.config.compose import compose, reaching_overrides
from funrec.config.defaults import PROGRAM
from funrec.data.datasets.base import Dataset
from funrec.experiment.building import build_parts
from funrec.experiment.settings import MetricSettings, RunSettings
from funrec.models.backbones.base import Backbone
from funrec.models.funnels.base import Funnel
from funrec.models.model import MultiTaskModel
from funrec.schema import Task
from funrec.training.trainer import Trainer
from funrec.utils.specs import spec_of
from funrec.weighting.base import Weighting

CONF = Path(__file__).parents[2] / "conf"
TASKS = (Task("click", "c"), Task("long_view", "l", after="click"), Task("like", "k", after="click"))
ROOMS = {
    "model/backbone": Backbone,
    "model/funnel": Funnel,
    "model": MultiTaskModel,
    "weighting": Weighting,
    "trainer": Trainer,
    "dataset": Dataset,
}


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml") if not file.stem.startswith("_"))


@cache
def whole(group: str, name: str) -> dict[str, Any]:
    return compose([f"{group}={name}"])


def composed(group: str, name: str) -> dict[str, Any]:
    config: Any = whole(group, name)
    for part in group.split("/"):
        config = config[part]
    return config


CHOICES = [(group, name) for group in (*ROOMS, "optimizer", "metrics", "experiment") for name in names(group)]
#: What is no network, and has keys of its own.
TREES = ("model", "gbdt")
PARTS = [(group, name) for group, name in CHOICES if group in ROOMS and (group, name) != TREES]
DATASETS = names("dataset")


def test_the_choices_are_found() -> None:
    assert {("model", "mmoe"), ("dataset", "synthetic"), ("weighting", "fixed"), ("trainer", "smoke")} <= set(CHOICES)


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_into_the_keys_that_a_run_knows(group: str, name: str) -> None:
    config = whole(group, name)
    assert set(config) == set(spec_of(RunSettings).parameters)
    known = set(spec_of(MetricSettings).parameters)
    assert set(config["metrics"]) | {"extra"} == known  # extra is there once one is chosen


@pytest.mark.parametrize(("group", "name"), PARTS)
def test_every_key_is_an_argument_and_every_default_is_spelt_out(group: str, name: str) -> None:
    config = composed(group, name)
    spec = spec_of(resolve(config["_target_"], ROOMS[group], group), PROGRAM if group.startswith("model") else ())
    assert set(spec.defaults()) <= set(config)
    assert set(config) - {"_target_", "backbone", "funnel", "interaction", "wide"} <= set(spec.parameters)


@pytest.mark.parametrize("name", [*names("weighting"), "lazy_adam", "default"])
def test_a_file_names_what_differs_from_the_defaults(name: str) -> None:
    (file,) = (file for group in ("weighting", "optimizer", "trainer") for file in (CONF / group).glob(f"{name}.yaml"))
    content = yaml.safe_load(file.read_text())
    defaults = spec_of(resolve(content["_target_"], object, name)).defaults()
    assert [key for key, value in content.items() if key in defaults and value == defaults[key]] == []


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("dataset.features.user_id.embedding_dim=16", ("dataset", "features", "user_id", "embedding_dim"), 16),
        ("dataset.features.tag.max_length=5", ("dataset", "features", "tag", "max_length"), 5),
        ("dataset.tasks.is_like.loss=focal", ("dataset", "tasks", "is_like", "loss"), "focal"),
        ("dataset.downsample.rate=0.5", ("dataset", "downsample", "rate"), 0.5),
        ("dataset.users=70", ("dataset", "users"), 70),
        ("trainer.patience=null", ("trainer", "patience"), None),
        ("optimizer.clipnorm=1.5", ("optimizer", "clipnorm"), 1.5),
    ],
)
def test_a_key_that_no_file_spells_is_overridden_without_a_plus(
    override: str, path: tuple[str, ...], value: Any
) -> None:
    node: Any = compose([override])
    for key in path:
        node = node[key]
    assert node == value


def test_a_key_of_a_swept_choice_is_reached() -> None:
    swept = ["weighting=dwa,gradnorm", "weighting.alpha=0,1", "trainer.patience=1", "weighting.alpah=2"]
    assert reaching_overrides(swept) == [swept[0], f"++{swept[1]}", f"++{swept[2]}", swept[3]]


@pytest.mark.parametrize("name", names("optimizer"))
def test_every_key_of_an_optimizer_is_an_argument_of_it(name: str) -> None:
    module, _, kind = composed("optimizer", name)["_target_"].rpartition(".")
    assert set(composed("optimizer", name)) - {"_target_"} <= set(
        inspect.signature(getattr(import_module(module), kind)).parameters
    )


@pytest.mark.parametrize("name", names("weighting"))
def test_every_weighting_is_built(name: str) -> None:
    build(composed("weighting", name), Weighting, "weighting").configure(TASKS)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["model", "optimizer", "trainer"])
def test_every_choice_becomes_the_parts_of_a_run(group: str) -> None:
    inputs = layout({"user": 20, "item": 30}, numeric=["age"], domain="user")
    for name in [name for name in names(group) if (group, name) != TREES]:
        parts = build_parts(whole(group, name), TASKS, inputs)
        parts.model.initialise(0, {"click": 0.5, "long_view": 0.3, "like": 0.1})
        assert parts.model(inputs.empty_batch(3)).shape[1] == 3


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "tabular"])
def test_every_dataset_is_built_without_its_files(name: str) -> None:
    made = build(composed("dataset", name), Dataset, "dataset")
    assert made.features
    assert made.tasks


def test_a_table_of_ones_own_is_built_from_the_command_line() -> None:
    config = compose(
        ["dataset=tabular", "dataset.path=log.csv", "+dataset.features={user: {}}", "+dataset.tasks={click: {}}"]
    )
    made = build(config["dataset"], Dataset, "dataset")
    assert [feature.name for feature in made.features] == ["user"]


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_sets_nothing_that_would_leak_into_a_model_chosen_on_top(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# @package _global_\n") or "\n# @package _global_\n" in text.partition("\ndefaults:")[0]
    content = yaml.safe_load(text)
    assert not {"backbone", "funnel"} & set(content.get("model") or {})


@pytest.mark.parametrize("name", names("experiment"))
def test_an_experiment_composes_with_another_model_on_top(name: str) -> None:
    config = compose([f"experiment={name}", "model=shared_bottom"])
    assert config["model"]["backbone"]["_target_"].endswith("SharedBottom")


def test_every_file_is_reached_by_its_name_from_the_command_line() -> None:
    for file in CONF.rglob("*.yaml"):
        assert re.fullmatch(r"_?[a-z][a-z0-9_]*", file.stem), file
