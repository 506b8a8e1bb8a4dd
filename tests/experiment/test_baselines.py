"""What a model has to beat: baselines run beside it, on the same rows, and stand in one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command
from tables import log_table, prepare_table

import funrec as package
from funrec.experiment.baselines import Popularity
from funrec.runs.folder import find_runs, status

SMALL = ("dataset.rows=3000", "trainer=smoke")


def rate_of(table: pl.DataFrame, label: str, smoothing: float) -> dict[str, float]:
    train = table.filter(pl.col("day") < 20220508)
    mean = train[label].mean()
    by_item = train.group_by("item").agg(pl.col(label).sum().alias("positives"), pl.len().alias("rows"))
    return {
        row["item"]: (row["positives"] + smoothing * mean) / (row["rows"] + smoothing) for row in by_item.to_dicts()
    }


def test_popularity_is_the_smoothed_rate_of_the_item_in_training(tmp_path: Path) -> None:
    table = log_table().filter((pl.col("day") >= 20220508) | (pl.col("item") != "i5"))
    data = prepare_table(tmp_path, table, item="item", tasks={"click": {}, "buy": {}})
    scores = Popularity(data, smoothing=4).score(data.splits["valid"])
    items = table.filter(pl.col("day") >= 20220508)["item"]
    for task in ("click", "buy"):
        expected = rate_of(table, task, 4)
        mean = table.filter(pl.col("day") < 20220508)[task].mean()
        chances = 1 / (1 + np.exp(-scores[task].astype(float)))
        np.testing.assert_allclose(chances, [expected.get(item, mean) for item in items], rtol=1e-5)
    assert "i5" in set(items)


def test_popularity_heeds_the_sample_space(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, item="item", tasks={"buy": {"where": "click = 1"}})
    chances = 1 / (1 + np.exp(-Popularity(data, 4).score(data.splits["valid"])["buy"].astype(float)))
    expected = rate_of(table.filter(pl.col("click") == 1), "buy", 4)
    items = table.filter(pl.col("day") >= 20220508)["item"]
    np.testing.assert_allclose(chances, [expected[item] for item in items], rtol=1e-5)


def test_popularity_puts_right_what_downsampling_took(tmp_path: Path) -> None:
    table = log_table(20_000)
    (tmp_path / "whole").mkdir()
    (tmp_path / "sampled").mkdir()
    whole = prepare_table(tmp_path / "whole", table, item="item")
    sampled = prepare_table(tmp_path / "sampled", table, item="item", downsample={"task": "click", "rate": 0.3})
    expected, found = (Popularity(data).score(data.splits["valid"])["click"] for data in (whole, sampled))
    # Some 300 negatives a video are kept, so that a logit is known to about 0.06; four times that.
    assert np.abs(expected - found).max() < 0.24


def test_popularity_of_a_regression_task_is_a_mean(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(tmp_path, table, item="item", tasks={"rating": {"kind": "regression"}})
    expected = rate_of(table, "rating", 20)
    items = table.filter(pl.col("day") >= 20220508)["item"]
    found = Popularity(data).score(data.splits["valid"])["rating"]
    np.testing.assert_allclose(found, [expected[item] for item in items], rtol=1e-5)


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, package.Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("siblings"))
        first = package.run_experiment("mmoe", *SMALL, "weighting=pareto", "model.tower_units=[8]", "baselines=true")
        runs = [package.load_run(path.resolve()) for path in find_runs("outputs")]
    assert first.record["label"] == "mmoe"
    return {run.record["label"]: run for run in runs}


@pytest.mark.slow
def test_baselines_run_beside_the_run(siblings: dict[str, package.Run]) -> None:
    assert set(siblings) == {"mmoe", "logistic", "popularity", "single_task", "gbdt"}
    mine = siblings["mmoe"].path
    assert {run.path for run in siblings.values()} == {
        mine,
        *(mine.with_name(f"{mine.name}_{name}") for name in siblings if name != "mmoe"),
    }


@pytest.mark.slow
def test_baselines_are_scored_on_the_same_rows(siblings: dict[str, package.Run]) -> None:
    assert len({json.dumps(run.record["row_fingerprint"]) for run in siblings.values()}) == 1
    assert all(set(run.metrics) == set(siblings["mmoe"].metrics) for run in siblings.values())


@pytest.mark.slow
def test_baselines_differ_from_the_run_in_model_and_weighting_alone(siblings: dict[str, package.Run]) -> None:
    configs = {name: run.record["config"] for name, run in siblings.items()}
    for config in configs.values():
        for key in ("dataset", "optimizer", "trainer", "metrics", "seed"):
            assert config[key] == configs["mmoe"][key]
        assert "baselines" not in config
    assert configs["mmoe"]["weighting"]["_target_"].endswith("Pareto")
    assert configs["single_task"]["weighting"]["_target_"].endswith("Fixed")
    assert configs["single_task"]["model"]["tower_units"] != [8]


@pytest.mark.slow
def test_popularity_leaves_a_whole_record_without_a_model(siblings: dict[str, package.Run]) -> None:
    run = siblings["popularity"]
    assert 0.5 < run.metrics["auc_is_click"] < siblings["mmoe"].oracle["auc_is_click"]  # type: ignore[index]
    assert run.record["rows_per_second"] is None
    assert run.record["diagnosis"]["tasks"] == ["is_click", "long_view", "is_like"]
    assert len(run.predictions()) == len(siblings["mmoe"].predictions())
    with pytest.raises(package.InputError):
        run.model()


@pytest.mark.slow
def test_baselines_know_an_experiment_of_ones_own_whichever_side_of_the_flag_it_is_named(
    workdir: Path, funrec: Command
) -> None:
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/tiny.yaml").write_text(
        "# @package _global_\ndefaults: [{override /trainer: smoke}, _self_]\ndataset: {rows: 3000}\n"
    )
    done = funrec("run", "baselines=true", "--config-dir", "mine", "experiment=tiny", "model=logistic")
    models = [line.split("|")[1].strip() for line in done.out.splitlines() if line.startswith("| ")]
    assert models == ["model", "logistic", "popularity", "single_task", "gbdt", "oracle"]  # logistic is one itself
    shutil.rmtree(next(run for run in find_runs("outputs") if run.name.endswith("_single_task")))
    run = next(run for run in find_runs("outputs") if status(run).state == "finished")
    assert "No baselines: experiment: there is no tiny" in funrec("resume", str(run)).err
    assert funrec("resume", str(run), "--config-dir", "mine").out == done.out
