"""Labels of a funnel nest, or the user learns how many do not and what mends it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from commands import Command

ROWS = 400
TABLE = ["dataset=tabular", "dataset.path=log.csv", "dataset.group=user", "trainer=smoke", "model=esmm"]
FEATURES = "+dataset.features={user: {}, item: {}}"


@pytest.fixture
def log(workdir: Path) -> Path:
    """A log in which every tenth like comes without its click."""
    place = pl.int_range(ROWS, eager=True)
    click = (place % 3 == 0).cast(pl.Int8)
    like = ((place % 6 == 0) | ((place % 10 == 1) & (click == 0))).cast(pl.Int8)
    frame = pl.DataFrame({"user": place % 7, "item": place % 11, "clicked": click, "liked": like})
    frame.write_csv("log.csv")
    return workdir


def tasks(like: str, where: str = "null") -> str:
    return f"+dataset.tasks={{click: {{label: clicked}}, like: {{label: {like}, after: click, where: {where}}}}}"


@pytest.mark.slow
def test_violations_are_counted_and_mended_by_the_label_that_is_shown(log: Path, funrec: Command) -> None:
    done = funrec("run", *TABLE, FEATURES, tasks("liked"))
    assert done.code == 2
    assert "dataset.tasks.like.label should be 0 wherever click is 0, for the funnel esmm." in done.err
    frame = pl.read_csv("log.csv")
    train = int(done.err.split(" of ")[0].split()[-1])
    assert 0 < train <= frame.filter((pl.col("liked") == 1) & (pl.col("clicked") == 0)).height
    override = done.err.strip().splitlines()[-1].split("Nest the label: ")[1]
    assert override == "'dataset.tasks.like.label=\"clicked = 1 AND liked = 1\"'"
    assert funrec("run", *TABLE, FEATURES, tasks("liked"), override.strip("'")).code == 0


@pytest.mark.slow
def test_an_independent_model_does_not_ask(log: Path, funrec: Command) -> None:
    assert funrec("run", *TABLE, FEATURES, tasks("liked"), "model/funnel=independent").code == 0


def test_a_task_masked_by_its_parents_label_is_refused(log: Path, funrec: Command) -> None:
    done = funrec("run", *TABLE, FEATURES, tasks("liked", where='"clicked = 1"'))
    assert done.code == 2
    assert "dataset.tasks.like.where should leave rows without click in" in done.err
    assert done.err.strip().splitlines()[-1].endswith("Set dataset.tasks.like.where=null.")


@pytest.mark.slow
def test_tasks_can_be_dropped_by_name(log: Path, funrec: Command) -> None:
    done = funrec("run", *TABLE, FEATURES, tasks("liked"), "dataset.drop=[like]", "model/funnel=independent")
    assert done.code == 0
    assert "auc_click" in done.out and "auc_like" not in done.out
    done = funrec("run", *TABLE, FEATURES, tasks("liked"), "dataset.drop=[lke]")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "dataset.drop: no feature or task lke. Did you mean like?" in done.err
