"""The synthetic pair is the MMoE paper's (section 3.2), and what it says of its own truth holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sklearn.metrics import roc_auc_score

from funrec.config.build import build
from funrec.data.datasets.synthetic_pair import SyntheticPair
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

CONF = str(Path(__file__).parents[3] / "conf")
ROWS = 20_000
STANDARD_ERRORS = 4.5


def make(**knobs: Any) -> SyntheticPair:
    arguments: dict[str, Any] = {
        "tasks": {"y1": {}, "y2": None},
        "split": {"by": "random", "valid": 0.2},
        "rows": ROWS,
        "num_features": 10,
    }
    target = "funrec.data.datasets.synthetic_pair.SyntheticPair"
    return build({"_target_": target, **arguments, **knobs}, SyntheticPair, "dataset")


def composed(*overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("dataset/synthetic_pair", overrides=list(overrides)).dataset


@pytest.mark.parametrize("correlation", [-1, -0.5, 0, 0.5, 0.9, 1])
def test_task_correlation_is_the_cosine_of_the_weights_whose_length_is_the_scale(correlation: float) -> None:
    weights = make(task_correlation=correlation, scale=3.0).weights
    assert weights.shape == (2, 10)
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 3.0)
    np.testing.assert_allclose(weights[0] @ weights[1] / 9, correlation, atol=1e-12)


def test_features_are_independent_standard_normals() -> None:
    x = make().generate(0, ROWS).select(f"x{i}" for i in range(10)).to_numpy().astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=STANDARD_ERRORS / np.sqrt(ROWS))
    np.testing.assert_allclose(np.cov(x.T), np.eye(10), atol=STANDARD_ERRORS * np.sqrt(2 / ROWS))
    np.testing.assert_allclose((x**4).mean(), 3, atol=STANDARD_ERRORS * np.sqrt(96 / (10 * ROWS)))


def test_labels_are_the_papers_formula_plus_its_noise() -> None:
    dataset = make(num_sines=3, noise_variance=0.01)
    rows = dataset.generate(0, ROWS)
    x = rows.select(f"x{i}" for i in range(10)).to_numpy().astype(np.float64)
    alphas, betas = dataset._sines
    assert len(alphas) == len(betas) == 3
    noise = []
    for label, weights in zip(("y1", "y2"), dataset.weights, strict=True):
        projection = x @ weights
        expected = projection + sum(np.sin(a * projection + b) for a, b in zip(alphas, betas, strict=True))
        np.testing.assert_allclose(rows[f"expected_{label}"], expected, rtol=1e-5, atol=1e-5)
        noise.append(rows[label].to_numpy() - expected)
    covariance = np.cov(noise)
    np.testing.assert_allclose(covariance, 0.01 * np.eye(2), atol=STANDARD_ERRORS * 0.01 * np.sqrt(2 / ROWS))


def test_labels_agree_more_the_more_related_the_tasks_are() -> None:
    correlations = [
        make(task_correlation=p).generate(0, ROWS).select(pl.corr("y1", "y2")).item() for p in (0, 0.3, 0.6, 0.9, 1)
    ]
    assert abs(correlations[0]) < STANDARD_ERRORS / np.sqrt(ROWS)
    assert all(np.diff(correlations) > 0.1 * np.array([1, 1, 1, 0.1]))
    assert correlations[-1] > 0.97
    assert make(task_correlation=-0.9, num_sines=0).generate(0, ROWS).select(pl.corr("y1", "y2")).item() < -0.85


def test_without_sines_tasks_are_linear() -> None:
    rows = make(num_sines=0, noise_variance=0).generate(0, 200)
    x = rows.select(f"x{i}" for i in range(10)).to_numpy()
    residual = np.linalg.lstsq(x, rows["y1"].to_numpy(), rcond=None)[1]
    assert residual < 1e-6


@pytest.mark.parametrize("label", ["y1", "y2"])
def test_binary_labels_follow_their_true_probability_in_every_tenth(label: str) -> None:
    rows = make(kind="binary").generate(0, ROWS).sort(f"p_{label}")
    assert set(rows[label]) == {0, 1}
    for tenth in range(10):
        part = rows.slice(tenth * ROWS // 10, ROWS // 10)
        p = part[f"p_{label}"].to_numpy().astype(np.float64)
        assert abs(part[label].mean() - p.mean()) <= STANDARD_ERRORS * np.sqrt((p * (1 - p)).sum()) / len(p)
    best = roc_auc_score(rows[label], rows[f"p_{label}"])
    for column in rows.columns:
        if column not in ("y1", "y2", f"p_{label}"):
            assert roc_auc_score(rows[label], rows[column]) < best


def test_a_binary_labels_logit_has_mean_0_and_the_asked_for_deviation() -> None:
    p = make(kind="binary", logit_scale=1.5, scale=0.3).generate(0, ROWS)["p_y1"].to_numpy().astype(np.float64)
    logits = np.log(p / (1 - p))
    assert abs(logits.mean()) < STANDARD_ERRORS * 1.5 / np.sqrt(ROWS)
    assert abs(logits.std() - 1.5) < STANDARD_ERRORS * 1.5 / np.sqrt(ROWS)


def test_rows_do_not_depend_on_how_many_are_made_at_once(tmp_path: Path) -> None:
    dataset = make()
    whole = dataset.generate(0, 1_000)
    dataset.rows, dataset.rows_per_file = 1_000, 300
    assert dataset.scan(dataset.available_columns(), tmp_path)["all"].collect().equals(whole)
    assert len(list(tmp_path.iterdir())) == 4
    assert make(seed=0).generate(0, 1_000).equals(whole)
    assert not make(seed=1).generate(0, 1_000).equals(whole)


def test_features_are_all_the_inputs_unless_some_are_named() -> None:
    assert [feature.name for feature in make().features] == [f"x{i}" for i in range(10)]
    assert {feature.kind for feature in make().features} == {"numeric"}
    assert [feature.name for feature in make(drop=["x0"]).features] == [f"x{i}" for i in range(1, 10)]
    assert [feature.name for feature in make(features={"x3": {"kind": "numeric"}}).features] == ["x3"]


def test_tasks_take_the_datasets_kind_and_only_binary_ones_have_a_true_probability() -> None:
    assert [task.kind for task in make().tasks] == ["regression", "regression"]
    assert make().oracle == {}
    binary = make(kind="binary")
    assert [task.kind for task in binary.tasks] == ["binary", "binary"]
    assert binary.oracle == {"y1": "p_y1", "y2": "p_y2"}
    assert make(kind="binary", where="x0 > 0").oracle == binary.oracle
    assert make(kind="binary", where="y1 = 1").oracle == {}


@pytest.mark.parametrize(("kind", "column"), [("regression", "expected_y1"), ("binary", "p_y2")])
def test_the_truth_is_refused_as_a_feature(kind: str, column: str) -> None:
    with pytest.raises(InputError, match=column):
        make(kind=kind, features={column: {"kind": "numeric"}}).check_leaks()


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    frame = make(kind="binary", rows=100).scan(["x1", "y1"], tmp_path)["all"].collect()
    assert frame.columns == ["x1", "y1"]


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_preparation_takes_either_kind(kind: str, tmp_path: Path) -> None:
    dataset = make(kind=kind, rows=2_000)
    split = prepare(dataset, tmp_path / "cache").splits["valid"]
    rows = dataset.generate(0, 2_000)[np.asarray(split.rows).tolist()]
    np.testing.assert_allclose(np.asarray(split.labels), rows.select("y1", "y2").to_numpy(), rtol=1e-6)
    assert (split.oracle is None) == (kind == "regression")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"rows": 0}, r"dataset.rows should be a whole number of at least 1\. Received: 0\."),
        ({"task_correlation": 1.5}, r"dataset.task_correlation should be a number from -1 to 1\. Received: 1\.5\."),
        ({"num_features": 1}, r"dataset.num_features should be a whole number of at least 2\. Received: 1\."),
        ({"num_sines": -1}, r"dataset.num_sines should be a whole number of at least 0"),
        ({"scale": 0}, r"dataset.scale should be a number strictly between 0 and 1000"),
        ({"noise_variance": -0.1}, r"dataset.noise_variance should be a number from 0"),
        ({"logit_scale": "2"}, r"dataset.logit_scale should be a number from 0"),
        (
            {"kind": "binry"},
            r"dataset.kind should be one of regression, binary\. Received: binry.* Did you mean binary\?",
        ),
    ],
)
def test_a_knob_out_of_range_is_one_clear_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**knobs)
    assert "\n" not in str(caught.value)


def test_features_and_kinds_of_tasks_that_are_not_given_are_the_datasets() -> None:
    dataset = instantiate(composed("+dataset.kind=binary"), _convert_="all")
    assert len(dataset.features) == 100
    assert [task.kind for task in dataset.tasks] == ["binary", "binary"]
