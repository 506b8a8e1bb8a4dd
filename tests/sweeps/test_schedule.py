"""A model trained day by day, each day evaluated before it is trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import Command
from tables import log_table

from funrec.config.compose import compose
from funrec.runs import record
from funrec.sweeps.schedule import DAY, daily_jobs, mean_rows
from funrec.utils.errors import InputError

FEATURES = ("dataset.features={user: {}, item: {}}", "dataset.tasks={click: {}}")


def jobs(folder: Path, *overrides: str, table: pl.DataFrame | None = None) -> list[list[str]]:
    (log_table() if table is None else table).write_csv(folder / "log.csv")
    asked = ["dataset=tabular", f"dataset.path={folder}/log.csv", "dataset.time=day", *FEATURES, *overrides]
    return daily_jobs(compose(asked), asked)


def by_time(valid_from: Any, **more: Any) -> str:
    rule = {"by": "time", "valid_from": valid_from, **more}
    return "dataset.split={" + ", ".join(f"{key}: {value}" for key, value in rule.items()) + "}"


def test_the_first_day_follows_all_before_and_each_further_one_the_day_before_it(tmp_path: Path) -> None:
    planned = jobs(tmp_path, by_time(20220507, test_from=20220510), "dataset.where='price > 0'")
    assert len(planned) == 3
    table, seen = log_table(), []
    for job in planned:
        dataset = compose(job)["dataset"]
        rows = table.filter(pl.sql_expr(dataset["where"]))
        first = dataset["split"]["valid_from"]
        assert dataset["split"]["test_from"] is None and compose(job)["trainer"]["monitor"] is None
        days = sorted(rows["day"].unique())
        seen.append(([day for day in days if day < first], [day for day in days if day >= first]))
    assert seen == [
        (list(range(20220501, 20220507)), [20220507]),
        ([20220507], [20220508]),
        ([20220508], [20220509]),
    ]


def test_days_as_text_are_days_too(tmp_path: Path) -> None:
    table = log_table().with_columns(day=pl.col("day").cast(pl.String).str.to_date("%Y%m%d").cast(pl.String))
    planned = jobs(tmp_path, by_time("'2022-05-09'"), table=table)
    rows = table.filter(pl.sql_expr(compose(planned[1])["dataset"]["where"]))
    assert sorted(rows["day"].unique()) == ["2022-05-09", "2022-05-10"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("dataset.split={by: random, valid: 0.2}",), r"needs dataset\.split\.by=time"),
        ((by_time(20230101),), "column day with 0"),
        ((by_time(1, column="hours"),), "column hours with 500"),
        ((by_time(20220507), "baselines=true"), "baselines should be false"),
    ],
)
def test_what_makes_no_days_is_refused(tmp_path: Path, overrides: tuple[str, ...], problem: str) -> None:
    table = log_table(500).with_columns(hours=pl.int_range(pl.len()) + 1)
    with pytest.raises(InputError, match=problem):
        jobs(tmp_path, *overrides, table=table)


def test_means_are_over_the_days_of_each_model() -> None:
    rows = [
        {"model": model, DAY: day, "auc_click": auc, "val_user_click": users}
        for day, users, pair in (("1", 10, (0.5, 0.9)), ("2", 21, (0.7, 0.8)))
        for model, auc in zip("ab", pair, strict=True)
    ]
    rows[3]["auc_like"] = 0.6
    means = list(mean_rows([*rows, {"model": "oracle", "auc_click": 1.0}], [DAY]))
    assert [(mean["model"], mean[DAY], mean["val_user_click"]) for mean in means] == [
        ("a", "mean of 2 days", 16),
        ("b", "mean of 2 days", 16),
    ]
    assert [mean["auc_click"] for mean in means] == pytest.approx([0.6, 0.85])
    assert not any("auc_like" in mean for mean in means)


SMALL = ("dataset.rows=4000", "dataset.users=200", "dataset.days=6", "trainer=smoke", "hydra.sweep.dir=days")


@pytest.mark.slow
def test_each_day_starts_from_the_day_before_and_the_schedule_is_resumed(funrec: Command, workdir: Path) -> None:
    done = funrec("run", "schedule=daily", "model=logistic", *SMALL, "dataset.split.valid_from=20220428")
    assert done.code == 0, done.err
    assert "mean of 3 days" in done.out and "dataset.where" not in done.out
    last = record.read("days/2")
    assert [Path(run["run"]).name for run in last["lineage"]] == ["0", "1"]
    assert [run["until"] for run in last["lineage"]] == [20220427, 20220428] and last["seen"]["until"] == 20220429
    assert last["selected_on"] is None
    table = done.out.splitlines()[-3]
    shutil.rmtree("days/2")
    again = funrec("resume", "days")
    assert again.code == 0, again.err
    assert again.out.splitlines()[-3] == table and record.read("days/2")["metrics"] == last["metrics"]


@pytest.mark.slow
def test_days_are_not_trained_side_by_side(funrec: Command, workdir: Path) -> None:
    done = funrec("run", "-m", "schedule=daily", *SMALL, "hydra/launcher=process")
    assert done.code == 2 and "hydra/launcher should be basic with schedule=daily" in done.err


def test_a_schedule_is_no_single_run(workdir: Path) -> None:
    from funrec.experiment.settings import check_settings

    with pytest.raises(InputError, match="schedule should be null"):
        check_settings(compose(["schedule=daily"]))
