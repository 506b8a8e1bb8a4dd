"""A `_target_` is a class of the right kind from an allowed package, or it is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import pytest
from commands import Command

from funrec.config.build import ALLOW_VARIABLE, allowed_packages, build, resolve
from funrec.models.backbones.base import Backbone
from funrec.models.backbones.mmoe import MMoE
from funrec.utils.errors import InputError

MMOE = "funrec.models.backbones.mmoe.MMoE"


def refusal(target: object, base: type = keras.optimizers.Optimizer) -> str:
    with pytest.raises(InputError) as refused:
        build({"_target_": target}, base, "part")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_allowed_class_of_the_right_kind_is_built_with_its_arguments() -> None:
    made = build({"_target_": MMOE, "num_experts": 3}, Backbone, "model.backbone", dtype="float32")
    assert isinstance(made, MMoE)
    assert made.num_experts == 3


def test_a_class_of_keras_is_found_by_its_public_name() -> None:
    made = build({"_target_": "keras.optimizers.Adam", "learning_rate": 0.5}, keras.optimizers.Optimizer, "optimizer")
    assert float(made.learning_rate) == 0.5


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "pandas.read_pickle", "joblib.load", "numpy.load"),
        *("kerasx.optimizers.Adam", "funrecx.Adam", "tensorflow.io.gfile.remove", ".keras.optimizers.Adam", "", "eval"),
    ],
)
def test_what_is_outside_the_allowed_packages_is_not_even_imported(target: str) -> None:
    assert refusal(target).startswith("part._target_ should be in one of the packages funrec, keras. Received: ")


@pytest.mark.parametrize(
    "target",
    [
        "keras.src.utils.file_utils.os.system",
        "keras.src.utils.file_utils.os.path.join",
        "keras.optimizers.Adm",
        "keras.optimisers.Adam",
        "keras.optimizers.Adam.__init__",
        "keras.optimizers.",
    ],
)
def test_a_name_that_leads_out_of_a_module_or_to_nothing_is_no_class(target: str) -> None:
    assert refusal(target) == f"part._target_ should name a class. There is no {target}."


@pytest.mark.parametrize(
    "target",
    [
        "keras.layers.Dense",
        "keras.utils.get_file",
        "keras.src.utils.file_utils.os",
        "keras.saving.load_model",
        "funrec.cli.main.main",
        MMOE,
    ],
)
def test_what_is_no_class_of_the_right_kind_is_refused(target: str) -> None:
    assert refusal(target) == f"part._target_ should be a Optimizer. Received: {target}."


def test_an_abstract_class_is_refused() -> None:
    from funrec.data.datasets.base import Dataset

    assert "should be a Dataset" in refusal("funrec.data.datasets.base.Dataset", Dataset)


@pytest.mark.parametrize("target", [None, 3, ["keras.optimizers.Adam"]])
def test_a_target_that_is_no_text_is_refused(target: object) -> None:
    assert refusal(target) == f"part._target_ should name a class. Received: {target}."


def test_an_argument_that_is_not_spelled_out_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.num_expert: no such key\. Did you mean num_experts\?$"):
        build({"_target_": MMOE, "num_expert": 3}, Backbone, "model.backbone")


def test_an_argument_of_the_program_cannot_be_set_from_a_file() -> None:
    with pytest.raises(InputError, match=r"^part\.layout: no such key\."):
        build({"_target_": MMOE, "layout": 3}, Backbone, "part", layout=4)


def test_a_missing_argument_is_named() -> None:
    from funrec.data.datasets.base import Dataset

    config = {"_target_": "funrec.data.datasets.synthetic.Synthetic", "features": {}, "split": {}}
    with pytest.raises(InputError, match=r"^dataset\.tasks should be given\. Received: nothing\.$"):
        build(config, Dataset, "dataset")


def test_what_keras_refuses_is_said_in_one_line() -> None:
    config = {"_target_": "keras.optimizers.Adam", "learning_rte": 0.1}
    with pytest.raises(InputError, match=r"^optimizer was refused by Adam: ") as refused:
        build(config, keras.optimizers.Optimizer, "optimizer")
    assert "\n" not in str(refused.value)


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_models.py").write_text(
        "from funrec.models.backbones.mmoe import MMoE\n\n\nclass Mine(MMoE):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_models.Mine"


def test_a_package_of_the_users_own_is_refused_until_allowed(own_package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pass --allow my_models or set FUNREC_ALLOW" in refusal(own_package, Backbone)
    assert "my_models" not in sys.modules
    monkeypatch.setenv(ALLOW_VARIABLE, "other, my_models")
    assert allowed_packages() == ("funrec", "keras", "other", "my_models")
    assert resolve(own_package, Backbone, "model.backbone").__name__ == "Mine"


def test_an_allowed_module_that_is_itself_broken_shows_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW_VARIABLE, "my_broken")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        resolve("my_broken.Mine", Backbone, "model.backbone")


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {callbacks: {a: {_target_: os.system, command: 'touch hit'}}}",
        "handlers: {a: {'()': os.system, command: 'touch hit'}}",
    ],
)
def test_a_folder_that_somebody_hands_over_calls_nothing(text: str, funrec: Command, workdir: Path) -> None:
    (workdir / "mine" / "dataset").mkdir(parents=True)
    (workdir / "mine" / "dataset" / "bad.yaml").write_text(f"# @package _global_\n{text}\n")
    done = funrec("run", "--config-dir", "mine", "+dataset=bad")
    assert done.code == 2
    assert "bad.yaml" in done.err and done.err.count("\n") == 1
    assert not (workdir / "hit").exists()
