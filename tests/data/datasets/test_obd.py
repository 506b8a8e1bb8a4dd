"""Open Bandit: its published layout, the items on offer, and a policy's estimate from a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import Command

from funrec import InputError, run_experiment
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset

ITEMS, ROWS = 4, 3000


def write_archive(root: Path, propensity: float = 1 / ITEMS) -> Path:
    """Write a log of random choices among four items, the first of which is clicked most."""
    draw = np.random.default_rng(0)
    folder = root / "random" / "men"
    folder.mkdir(parents=True)
    item = draw.integers(0, ITEMS, ROWS)
    affinities = {f"user-item_affinity_{place}": draw.integers(0, 2, ROWS).astype(float) for place in range(ITEMS)}
    pl.DataFrame(
        {
            "": range(ROWS),
            "timestamp": [f"2019-11-{24 + day} 10:00:00.5+00:00" for day in np.arange(ROWS) * 7 // ROWS],
            "item_id": item,
            "position": draw.integers(1, 4, ROWS),
            "click": (draw.random(ROWS) < np.where(item == 0, 0.6, 0.1)).astype(int),
            "propensity_score": np.full(ROWS, propensity),
            **{f"user_feature_{place}": draw.choice(["a", "b"], ROWS) for place in range(4)},
            **affinities,
        }
    ).write_csv(folder / "men.csv")
    features = {f"item_feature_{place}": [f"hash {place}{item}" for item in range(ITEMS)] for place in range(1, 4)}
    items = {"": range(ITEMS), "item_id": range(ITEMS), "item_feature_0": np.linspace(-1, 1, ITEMS), **features}
    pl.DataFrame(items).write_csv(folder / "item_context.csv")
    return root


def test_a_row_has_its_items_features_and_the_users_affinity_to_it(tmp_path: Path) -> None:
    config = compose(["dataset=obd", f"dataset.root={write_archive(tmp_path)}"])["dataset"]
    dataset = build(config, Dataset, "dataset")
    rows = dataset.scan([], tmp_path)["all"].collect()
    assert rows.height == ROWS and rows["item_feature_1"].to_list() == [f"hash 1{item}" for item in rows["item_id"]]
    picked = rows.row(5, named=True)
    assert picked["affinity"] == picked[f"user-item_affinity_{picked['item_id']}"]
    offers = dict(dataset.offers(rows.head(10)))
    assert list(offers) == list(range(ITEMS))
    for item, offered in offers.items():
        assert offered["item_id"].unique().to_list() == [item]
        assert offered["item_feature_3"].unique().to_list() == [f"hash 3{item}"]
        assert offered["affinity"].to_list() == rows.head(10)[f"user-item_affinity_{item}"].to_list()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    config = compose(["dataset=obd", f"dataset.root={tmp_path}"])["dataset"]
    with pytest.raises(InputError, match=r"men\.csv.*Get it from https://research"):
        build(config, Dataset, "dataset").sources()


@pytest.mark.slow
def test_a_policy_that_follows_a_good_model_is_found_to_earn_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funrec: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_archive(tmp_path / "good")
    run = run_experiment(
        "logistic", "dataset=obd", f"dataset.root={root}", "trainer.epochs=4", "optimizer.learning_rate=0.05"
    )
    from funrec.experiment.policy import estimate_policy

    found = estimate_policy(run.path, temperature=0.2)
    assert found.items == ITEMS and found.rows == sum(run.predictions()["split"] == "valid")
    for name in ("ips", "snips", "dr"):
        assert found.values[name].low > found.values["logged"].high
        assert found.values[name].low < 0.6 < found.values[name].high + 0.05
    done = funrec("policy", str(run.path))
    assert done.code == 0 and "snips" in done.out and "over 4 items" in done.out
    odd = pl.read_csv(root / "random" / "men" / "men.csv").with_columns(propensity_score=pl.lit(0.0))
    odd.write_csv(root / "random" / "men" / "men.csv")
    done = funrec("policy", str(run.path))
    assert done.code == 2 and "A propensity should be above 0 and at most 1" in done.err


def test_the_published_sample_reads_as_it_is(shared_data: Path, tmp_path: Path) -> None:
    for policy in ("random", "bts"):
        config = compose(["dataset=obd", f"dataset.root={shared_data / 'obd'}", f"dataset.policy={policy}"])["dataset"]
        rows = build(config, Dataset, "dataset").scan([], tmp_path)["all"].collect()
        assert rows.height == 10_000 and rows["item_feature_0"].null_count() == 0
        assert rows["propensity_score"].is_between(0, 1, closed="right").all()
