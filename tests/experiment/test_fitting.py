"""From a configuration to parts; where heads start, and how often rows are looked up."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from examples import Rows, layout, model
from numpy.typing import NDArray

from funrec.config.compose import compose
from funrec.data.arrays import SequenceArrays
from funrec.experiment.building import build_parts, part_names
from funrec.experiment.fitting import base_rates, count_lookups
from funrec.models.backbones.ple import PLE
from funrec.models.funnels.independent import Independent
from funrec.schema import CategoricalFeature, InputLayout, SequenceFeature, Task
from funrec.training.optimizers import LazyAdam
from funrec.utils.errors import InputError

TASKS = (Task("click", "click"), Task("seconds", "seconds", kind="regression"))
LAYOUT = layout({"user": 5, "item": 6})


def rows(**more: NDArray) -> Rows:
    labels = np.array([[1, 10.0], [0, 20.0], [0, 30.0], [0, 40.0]], np.float32)
    return Rows(np.array([[1, 2], [1, 3], [4, 2], [0, 2]], np.int32), np.zeros((4, 0), np.float32), labels, **more)


def test_parts_are_what_the_configuration_names() -> None:
    config = compose(["model=ple", "optimizer.learning_rate=1", "trainer.batch_size=7"])
    parts = build_parts(config, TASKS[:1], LAYOUT)
    assert isinstance(parts.model.backbone, PLE)
    assert isinstance(parts.model.funnel, Independent)
    assert isinstance(parts.optimizer, LazyAdam)
    assert float(parts.optimizer.learning_rate) == 1.0
    assert parts.trainer.batch_size == 7
    assert parts.weighting.tasks == TASKS[:1]


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        (["trainer.monitor=auc_click"], "max"),
        (["trainer.monitor=log_loss_click"], "min"),
        (["trainer.monitor=auc_click", "trainer.monitor_mode=min"], "min"),
    ],
)
def test_which_way_the_monitored_metric_is_better_is_its_own_matter_unless_set(overrides: list[str], mode: str) -> None:
    assert build_parts(compose(overrides), TASKS, LAYOUT).trainer.monitor_mode == mode


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_optimizers_of_keras_are_configured_by_its_own_arguments(name: str) -> None:
    parts = build_parts(compose([f"optimizer={name}", "optimizer.learning_rate=0.25"]), TASKS, LAYOUT)
    assert type(parts.optimizer) is getattr(keras.optimizers, name.capitalize())
    assert float(parts.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("rate", ["0", "-0.1", ".inf", "fast", "null", "true"])
def test_a_learning_rate_that_is_not_positive_is_refused(rate: str) -> None:
    for optimizer in ("lazy_adam", "adam"):
        config = compose([f"optimizer={optimizer}", f"optimizer.learning_rate={rate}"])
        with pytest.raises(InputError, match=r"^optimizer\.learning_rate should be a positive number\. Received: "):
            build_parts(config, TASKS, LAYOUT)


def test_parts_are_called_by_their_modules() -> None:
    assert part_names(model()) == {"backbone": "mmoe", "funnel": "independent", "interaction": "none", "wide": "none"}


def test_base_rates_are_means() -> None:
    assert base_rates(rows(), TASKS, {}) == pytest.approx({"click": 0.25, "seconds": 25.0})


def test_base_rates_are_of_the_sample_space_and_weighted() -> None:
    masks = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    weights = np.array([[3, 1], [1, 1], [1, 3], [1, 1]], np.float32)
    assert base_rates(rows(masks=masks), TASKS, {}) == pytest.approx({"click": 0.5, "seconds": 20.0})
    assert base_rates(rows(masks=masks, weights=weights), TASKS, {}) == pytest.approx({"click": 0.75, "seconds": 25.0})


def test_base_rates_of_downsampled_negatives_are_put_right() -> None:
    # 1 positive and 3 negatives, of which a tenth was kept: 1 in 31.
    assert base_rates(rows(), TASKS, {"click": math.log(0.1)})["click"] == pytest.approx(1 / 31)


def test_lookups_are_counted_by_the_feature_that_owns_the_rows() -> None:
    features = (CategoricalFeature("user"), CategoricalFeature("item"), SequenceFeature("seen", share_with="item"))
    inputs = InputLayout(features, ("user", "item"), (), {"user": 5, "item": 6})
    seen = SequenceArrays(np.array([0, 2, 2, 3, 3]), np.array([5, 2, 2], np.int32))
    counts = count_lookups(rows(sequences={"seen": seen}), inputs)
    np.testing.assert_array_equal(counts["user"], [1, 2, 0, 0, 1])
    np.testing.assert_array_equal(counts["item"], [0, 0, 3 + 2, 1, 0, 1])
    assert set(counts) == {"user", "item"}
