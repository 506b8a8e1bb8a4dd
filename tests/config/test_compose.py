"""Hydra at arm's length: plain values, errors in one line, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from funrec.config.compose import compose, parse_override, save, to_plain
from funrec.config.overrides import quoted
from funrec.utils.errors import InputError


def check_plain(value: object) -> None:
    assert value is None or type(value) in (dict, list, str, int, float, bool)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_plain(inner)


def test_a_configuration_is_plain_values_without_hydras_own() -> None:
    config = compose(["model=shared_bottom", "model.tower_units=[8,4]", "seed=3"])
    check_plain(config)
    assert config["seed"] == 3
    assert config["model"]["tower_units"] == [8, 4]
    assert config["model"]["backbone"]["_target_"].endswith("SharedBottom")
    assert "hydra" not in config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle=mmoe", "modle: no such key. Did you mean model?"),
        ("model=mmeo", "model: there is no mmeo. Did you mean mmoe?"),
        ("model/backbone=shared_botom", "model/backbone: there is no shared_botom. Did you mean shared_bottom?"),
        ("trainer.epoch=2", "trainer.epoch: no such key. Did you mean epochs?"),
        ("trainr.epochs=2", "trainr.epochs: no such key. Did you mean trainer.epochs?"),
        (
            "dataset.features.vidoe_id.min_count=2",
            "dataset.features.vidoe_id.min_count: no such key. Did you mean video_id? "
            "A new one needs a plus: +dataset.features.vidoe_id.min_count=...",
        ),
        (
            "model=3",
            "A choice should be the name of a configuration, as in model=mmoe. "
            "Config group override must be a string or a list. Got int.",
        ),
        ("~dataset.features.vidoe_id", "~dataset.features.vidoe_id: no such key. Did you mean video_id?"),
        (
            "dataset.drop=[größe,tag]",
            "Letters beyond ASCII should be in quotes. Received: dataset.drop=[größe,tag]. "
            "Write 'dataset.drop=[\"größe\",tag]'.",
        ),
        (
            "dataset.tasks.点击.label=is_click",
            "The key of an override should be ASCII. Received: dataset.tasks.点击.label. "
            "Set it in a YAML file, with --config-dir.",
        ),
        ("seed=${nothing}", "Interpolation key 'nothing' not found full_key: seed object_type=dict"),
    ],
)
def test_an_override_that_does_not_fit_is_one_line_with_the_nearest_name(override: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        compose([override])
    assert str(refused.value) == message


@pytest.mark.parametrize("override", ["model", "dataset.where=tab IN (0,1)", "a=[1,"])
def test_an_override_that_does_not_parse_says_how_to_quote(override: str) -> None:
    with pytest.raises(InputError, match="An override should read key=value") as refused:
        compose([override])
    assert "\n" not in str(refused.value)


def test_a_value_that_must_be_given_is_named() -> None:
    with pytest.raises(InputError, match=r"^seed should be given\. Received: nothing\. Add seed=\.\.\. to the command"):
        to_plain(OmegaConf.create({"seed": "???"}))


def test_a_saved_configuration_reads_as_it_was(tmp_path: Path) -> None:
    config = compose(["dataset.where='tab IN (0,1)'"])
    save(config, ["dataset.where='tab IN (0,1)'"], tmp_path / ".hydra")
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / ".hydra" / "config.yaml")) == config
    assert OmegaConf.load(tmp_path / ".hydra" / "overrides.yaml") == ["dataset.where='tab IN (0,1)'"]


def test_a_caller_who_uses_hydra_keeps_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        compose([])
        with pytest.raises(InputError):
            compose(["modle=mmoe"])
        assert GlobalHydra.instance().hydra is before
        assert hydra_compose("mine").answer == 42
    assert HydraConfig.instance().cfg is None


def test_two_folders_of_one_second_have_two_names() -> None:
    names = {OmegaConf.create({"name": "${unique:}"}).name for _ in range(50)}
    assert len(names) > 45
    one = OmegaConf.create({"name": "${unique:}"})
    assert one.name == one.name


@pytest.mark.parametrize(
    "text", ["plain", "it's", "a\\b", "a\\\\'b", "C:\\x\\", "with, commas [and] = {more}", "\\'", "'", ""]
)
def test_a_quoted_text_is_read_back_as_it_was(text: str) -> None:
    assert parse_override(f"key={quoted(text)}")[1] == text
