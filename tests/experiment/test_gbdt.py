"""Boosted trees read ids as what is known of them by then, and stand beside networks as any model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, tabular

import funrec as package
from funrec import InputError
from funrec.data.preparation.prepare import prepare
from funrec.experiment import gbdt
from funrec.experiment.gbdt import FOLDS, _encode_ids

FEATURES: dict[str, Any] = {"user": {}, "item": {}, "price": {"kind": "numeric"}}
HISTORY = {"kind": "history", "by": "user", "count": True}


def encoded(folder: Path, table: pl.DataFrame, smoothing: float = 4, **changes: Any) -> tuple[Any, dict[str, Any]]:
    dataset = tabular(folder, table, **{"features": FEATURES, "time": "day", **changes})
    data = prepare(dataset, folder / "cache")
    (folder / "work").mkdir()
    found = _encode_ids(dataset, data, smoothing, 0, folder / "work")
    return data, {split: {key: np.asarray(values) for key, values in of.items()} for split, of in found.items()}


@pytest.mark.parametrize("until", ["row", "train_end", None])
def test_an_id_is_read_as_its_rate_on_the_days_before(tmp_path: Path, until: str | None) -> None:
    table, tasks = log_table(), {"buy": {"where": "click = 1"}}
    changes = {} if until is None else {"features": FEATURES | {"n": HISTORY}, "history": {"until": until}}
    data, found = encoded(tmp_path, table, tasks=tasks, **changes)
    known = table if until == "row" else table.filter(pl.col("day") < 20220508)  # a dataset without histories is frozen
    for split in ("train", "valid"):
        for place, row in enumerate(data.splits[split].rows):
            day, item = table.select("day", "item").row(row)
            before = known.filter(pl.col("day") < day)
            mean, own = before.filter(pl.col("click") == 1)["buy"].mean(), before.filter(pl.col("item") == item)
            assert found[split]["/item"][place] == own.height
            if mean is not None:
                clicked = own.filter(pl.col("click") == 1)
                expected = (clicked["buy"].sum() + 4 * mean) / (clicked.height + 4)
                assert found[split]["buy/item"][place] == pytest.approx(expected, rel=1e-5)


def test_without_time_a_training_row_sees_the_other_folds_alone(tmp_path: Path) -> None:
    table = log_table()
    data, found = encoded(tmp_path, table, smoothing=0, split={"by": "random", "valid": 0.3})
    train = table[data.splits["train"].rows]
    whole = dict(train.group_by("user").agg(pl.col("click").mean()).iter_rows())
    users = table[data.splits["valid"].rows]["user"]
    assert found["valid"]["click/user"] == pytest.approx([whole[user] for user in users])
    folds = np.random.default_rng(0).integers(0, FOLDS, train.height)
    for place in range(50):
        others = train.filter(pl.Series(folds != folds[place]) & (pl.col("user") == train["user"][place]))
        assert found["train"]["click/user"][place] == pytest.approx(others["click"].mean())


def planted(rows: int = 6_000) -> pl.DataFrame:
    draw = np.random.default_rng(1)
    user, x = draw.integers(0, 40, rows), draw.normal(size=rows)
    chance = 1 / (1 + np.exp(-np.where(user % 2 == 0, 2.0, -2.0) * np.sign(x)))
    time = np.sort(draw.integers(1, 11, rows)) + 20220500
    return pl.DataFrame({"user": user, "x": x, "kind": user % 2, "day": time, "click": draw.random(rows) < chance})


@pytest.mark.slow
def test_trees_find_a_cross_that_no_sum_sees_and_leave_a_whole_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = (
        *("dataset.time=day", "dataset.group=user", "dataset.split.by=time", "dataset.split.column=day"),
        *("dataset.split.valid_from=20220508", "dataset.split.valid=null", "+dataset.tasks={click: {}}"),
        "+dataset.features={user: {}, x: {kind: numeric}, kind: {kind: numeric}}",
    )
    run = package.run_experiment("gbdt", *common, "model.trees=50", data=planted())
    assert run.record["label"] == "gbdt"
    assert run.metrics["auc_click"] > 0.85  # the truth ranks at .88
    assert len(run.predictions()) > 1000
    capped = package.run_experiment("gbdt", *common, "model.trees=5", "model.max_rows=1000", data=planted())
    assert capped.record["label"] == "gbdt (1,000 rows)"
    with pytest.raises(InputError, match=r"New rows are scored with a network. Received: .*, a run of gbdt"):
        run.predict(planted().head(5))


def test_a_key_that_trees_do_not_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^model\.leafs: no such key\. Did you mean leaves\?"):
        package.run_experiment("gbdt", "+model.leafs=4", "dataset.rows=2000")
    assert gbdt.BoostedTrees().leaves == 31
