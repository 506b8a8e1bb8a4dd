"""Calibration: right on planted distortions, keeps the order of rows, and is fitted on rows of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

from funrec import InputError, Run, load_run, run_experiment
from funrec.calibration.base import Calibration, Fitted
from funrec.calibration.isotonic import Isotonic
from funrec.calibration.platt import Platt
from funrec.data.arrays import SplitArrays
from funrec.metrics.auc import auc
from funrec.metrics.base import sigmoid
from funrec.metrics.calibration import expected_calibration_error
from funrec.runs.record import read_predictions
from funrec.schema import CategoricalFeature, InputLayout, Task

TASKS = (Task("click", "click"),)
LAYOUT = InputLayout((CategoricalFeature("tab", "tab"),), ("tab",), (), {"tab": 4})


def split_of(labels: np.ndarray, tab: np.ndarray) -> SplitArrays:
    """Return rows with one task and one feature."""
    return SplitArrays(
        "calibrate",
        tab[:, None].astype(np.int32),
        np.zeros((labels.size, 0), np.float32),
        {},
        labels[:, None].astype(np.float32),
        np.arange(labels.size),
    )


def distorted(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, their labels, and the true log odds `3 s + s^3 - 2`."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=rows).astype(np.float32)
    truth = 3.0 * scores + scores.astype(np.float64) ** 3 - 2
    return scores, (draw.random(rows) < sigmoid(truth)).astype(np.float32), truth


def test_platt_finds_a_slope_and_an_intercept() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(5, 2, 200_000)
    labels = (draw.random(scores.size) < sigmoid(0.7 * scores - 4)).astype(np.float32)
    curve = Platt().curve(scores, labels)
    assert curve(np.array([0.0, 1.0])) == pytest.approx([-4, -3.3], abs=0.05)


def test_platt_keeps_the_order_of_scores_that_rank_wrongly() -> None:
    scores = np.linspace(-1, 1, 1000)
    curve = Platt().curve(scores, (scores < 0).astype(np.float32))
    assert (np.diff(curve(scores)) > 0).all()


@pytest.mark.parametrize("method", [Platt(), Isotonic()])
def test_curves_rise_everywhere_and_make_no_ties(method: Calibration) -> None:
    scores, labels, _ = distorted(5_000, seed=1)
    curve = method.curve(scores.astype(np.float64), labels)
    distinct = np.unique(np.concatenate([scores.astype(np.float64), [-50.0, 50.0]]))
    assert (np.diff(curve(distinct)) > 0).all()
    assert auc(labels, curve(scores)) == auc(labels, scores)


def test_platt_is_the_maximum_of_the_likelihood_of_rare_labels() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(-5, 0.4, 20_000)
    labels = (draw.random(scores.size) < sigmoid(2 * scores + 5)).astype(np.float32)
    residual = labels - sigmoid(Platt().curve(scores, labels)(scores))
    assert abs(residual.mean()) < 1e-7
    assert abs((residual * scores).mean()) < 1e-5  # the slope's prior is all that is left


@pytest.mark.parametrize("seed", [137, 309, 1089])
def test_isotonic_joins_steps_of_one_rate_that_rounding_tells_apart(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = (draw.random(400) < np.linspace(0.3, 0.6, 400)).astype(np.float32)
    assert (np.diff(Isotonic().curve(np.arange(400.0), labels).log_odds) > 0).all()


def test_isotonic_calibrates_what_no_line_can() -> None:
    scores, labels, _ = distorted(100_000, seed=2)
    scores = scores.astype(np.float64)
    fresh, fresh_labels, truth = distorted(100_000, seed=3)
    errors = {
        type(method).__name__: expected_calibration_error(fresh_labels, sigmoid(method.curve(scores, labels)(fresh)))
        for method in (Platt(), Isotonic())
    }
    assert errors["Isotonic"] < 0.005 < errors["Platt"]
    found = sigmoid(Isotonic().curve(scores, labels)(fresh))
    assert np.abs(found - sigmoid(truth)).mean() < 0.01


def test_labels_that_scores_tell_apart_give_finite_log_odds() -> None:
    scores = np.arange(200.0)
    curve = Isotonic().curve(scores, (scores >= 100).astype(np.float32))
    assert np.isfinite(curve(scores)).all() and (np.diff(curve(scores)) > 0).all()


def test_each_value_with_enough_rows_has_a_curve_of_its_own() -> None:
    draw = np.random.default_rng(4)
    tab = np.repeat([1, 2, 3], [20_000, 20_000, 100])
    scores = draw.normal(size=tab.size).astype(np.float32)
    shift = np.array([0.0, -2.0, 1.0, 0.0])
    labels = draw.random(tab.size) < sigmoid(scores + shift[tab])
    rows = split_of(labels, tab)
    fitted = Platt(by="tab").fit(TASKS, LAYOUT, rows, {"click": scores})
    assert list(fitted.by_value["click"]) == [1, 2]
    calibrated = sigmoid(fitted.apply({"click": scores}, rows)["click"])
    for value in (1, 2):
        assert calibrated[tab == value].sum() == pytest.approx(labels[tab == value].sum(), rel=1e-3)
    np.testing.assert_allclose(calibrated[tab == 3], sigmoid(fitted.curves["click"](scores[tab == 3])), rtol=1e-5)


def test_curves_are_written_and_read_back(tmp_path: Path) -> None:
    scores, labels, _ = distorted(3_000, seed=5)
    tab = np.arange(labels.size) % 2 + 1
    rows = split_of(labels, tab)
    fitted = Isotonic(by="tab", least_rows=100).fit(TASKS, LAYOUT, rows, {"click": scores})
    fitted.save(tmp_path)
    assert Fitted.load(tmp_path) == fitted
    assert Fitted.load(tmp_path / "none") is None


def test_few_labels_are_refused() -> None:
    with pytest.raises(InputError, match="Received: 3 of 1 among 50"):
        Platt().fit(TASKS, LAYOUT, split_of(np.arange(50) < 3, np.ones(50)), {"click": np.arange(50.0)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibration.split=valid", "dataset.split.calibrate_from=20220504"], "Received: valid, which is reported."),
        (["calibration.split=train"], "Received: train, which trains the model."),
        ([], "calibration should have rows of its own. Received: none."),
        (["calibration.by=tob", "dataset.split.calibrate_from=20220504"], "Received: tob. Did you mean tab?"),
        (["calibration.least_rows=0"], "calibration.least_rows should be a positive whole number. Received: 0."),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_one_line(
    workdir: Path, funrec: Command, arguments: list[str], message: str
) -> None:
    done = funrec("run", "calibration=platt", "dataset.rows=3000", "trainer=smoke", *arguments)
    assert done.code == 2 and message in done.err


def test_a_dry_run_wants_rows_to_calibrate_on_too(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "--dry", "calibration=platt", "dataset.rows=3000", "model=logistic")
    assert done.code == 2 and "calibration should have rows of its own" in done.err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose click only ranks, calibrated by tab."""
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = run_experiment(
            "logistic",
            "dataset.rows=20000",
            "dataset.split={by: group, valid: 0.2, calibrate: 0.2, test: 0.2}",
            "dataset.tasks.is_click.loss=pairwise",
            "calibration=platt",
            "calibration.by=tab",
            "trainer=smoke",
        )
        return load_run(done.path.resolve())


@pytest.mark.slow
def test_a_ranking_loss_has_log_loss_once_it_is_calibrated(run: Run) -> None:
    assert run.record["uncalibrated"] == []
    before, after = run.record["calibration"]["metrics"]["ece_is_click"]
    assert before is None and after == run.metrics["ece_is_click"] < 0.1
    assert run.metrics["ratio_is_click@test"] == pytest.approx(1, abs=0.2)
    assert "log_loss_is_click" in run.metrics and not any("@calibrate" in name for name in run.metrics)
    assert {part["slice"] for part in run.record["calibration"]["slices"]} == {"user", "item", "tab"}
    assert "ece_is_like@test" in run.calibration() and "Predicted/observed by slice" in run.calibration()


@pytest.mark.slow
def test_calibrated_scores_are_those_that_predict_writes(run: Run) -> None:
    from funrec.config.build import build
    from funrec.data.datasets.base import Dataset

    frame = build(run.record["config"]["dataset"], Dataset, "dataset").generate(0, 20_000)
    found, saved = run.predict(frame), read_predictions(run.path)
    for task in ("is_click", "is_like"):
        expected = sigmoid(saved[f"score_{task}"]).astype(np.float32)
        np.testing.assert_allclose(found[f"p_{task}"].to_numpy()[saved["row"]], expected, rtol=1e-6)


@pytest.mark.slow
def test_the_four_ranges_share_no_user(run: Run) -> None:
    saved = read_predictions(run.path)
    users = {name: set(saved["group"][saved["split"] == name].tolist()) for name in ("valid", "calibrate", "test")}
    assert all(users.values()) and sum(map(len, users.values())) == len(set.union(*users.values()))
    kept = json.loads((run.path / "model" / "calibration.json").read_text())
    assert set(kept["curves"]) == {"is_click", "long_view", "is_like"} and kept["by"] == "tab"


@pytest.mark.slow
def test_a_run_calibrates_heads_given_the_task_before_too(workdir: Path) -> None:
    split = "dataset.split={by: group, valid: 0.2, calibrate: 0.3}"
    run = run_experiment("esmm", "dataset.rows=8000", split, "calibration=platt", "trainer=smoke")
    kept = Fitted.load(run.path / "model")
    assert kept is not None and "is_like_given_is_click" in kept.curves
    found = [part for part in run.record["calibration"]["slices"] if part["task"] == "is_like_given_is_click"]
    before, after = next(part["ratio"] for part in found if part["slice"] == "user")
    assert abs(after - 1) < abs(before - 1)


def test_a_head_given_the_task_before_is_calibrated_on_its_positives() -> None:
    draw = np.random.default_rng(0)
    tasks = (Task("click", "click"), Task("buy", "buy", after="click"))
    scores = draw.normal(size=(20_000, 2)).astype(np.float32)
    clicked = draw.random(20_000) < 0.3
    buys = clicked & (draw.random(20_000) < sigmoid(2 * scores[:, 1] - 1))
    rows = replace(split_of(clicked, np.ones(20_000)), labels=np.stack([clicked, buys], axis=1))
    by_head = {"click": scores[:, 0], "buy": scores[:, 1], "buy_given_click": scores[:, 1]}
    fitted = Platt().fit(tasks, LAYOUT, rows, by_head)
    curve = fitted.curves["buy_given_click"]
    assert (curve.above, curve(np.zeros(1))[0]) == pytest.approx((2, -1), abs=0.15)
    few = Platt(least_labels=int(buys.sum()) + 1)
    with pytest.raises(InputError, match=r"tasks\.buy: the calibrate split"):
        few.fit(tasks, LAYOUT, rows, by_head)


@pytest.mark.slow
def test_rows_to_calibrate_on_may_be_a_file_of_their_own(workdir: Path) -> None:
    draw = np.random.default_rng(0)
    frames = {}
    for name in ("train", "valid", "calibrate"):
        user = draw.integers(0, 30, 1500)
        click = (draw.random(user.size) < sigmoid(0.1 * user - 1.5)).astype(int)
        frames[name] = pl.DataFrame({"user": user, "click": click})
    features = "+dataset.features={user: {}}"
    overrides = (features, "+dataset.tasks={click: {}}", "calibration=platt", "trainer=smoke")
    run = run_experiment("logistic", *overrides, data=frames)
    saved, ratios = read_predictions(run.path), {}
    for name in np.unique(saved["split"]):
        rows = saved["split"] == name
        ratios[name] = sigmoid(saved["score_click"][rows]).mean() / saved["label_click"][rows].mean()
    assert set(ratios) == {"valid", "calibrate"}
    # Platt's intercept makes the means equal on the rows that it was fitted to, and on no others.
    assert ratios["calibrate"] == pytest.approx(1, abs=1e-3) and abs(ratios["valid"] - 1) > 2e-3
    assert not any("@calibrate" in name for name in run.metrics)
    kept = Fitted.load(run.path / "model")
    assert kept is not None and set(kept.curves) == {"click"}
