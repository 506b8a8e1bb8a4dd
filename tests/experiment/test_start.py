"""A run that starts from another's weights: what it takes over, what it says, and when it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import Command
from tables import prepare_table, tabular

import funrec
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.arrays import save_inputs
from funrec.data.datasets.synthetic import Synthetic
from funrec.data.preparation.extending import Known
from funrec.data.preparation.prepare import prepare
from funrec.experiment.explain import explain
from funrec.experiment.run import Run
from funrec.experiment.start import Start, describe_seen
from funrec.utils.errors import InputError

SMALL = ("dataset.rows=3000", "dataset.users=200", "trainer=smoke")
APRIL = ("dataset.where='date < 20220501'", "dataset.split.valid_from=20220430")
MAY = ("dataset.where='date >= 20220430'", "dataset.split.valid_from=20220502")


def day(valid_from: int, until: int = 20220511, **split: Any) -> dict[str, Any]:
    """Return a dataset's arguments: a split by time on part of the log."""
    rule = {"by": "time", "column": "day", "valid_from": valid_from, **split}
    return {"split": rule, "where": f"day < {until}", "time": "day"}


def start_from(folder: Path, selected_on: str | None = None, lineage: Any = (), **dataset: Any) -> Start:
    """Return a run on a part of the log, without a training."""
    data = prepare_table(folder, **dataset)
    save_inputs(data, folder / "run" / "model")
    seen = describe_seen(tabular(folder, **dataset), data, {selected_on})
    return Start(folder / "run", {"seen": seen, "lineage": list(lineage)}, Known.read(folder / "run"))


def check(start: Start, folder: Path, **dataset: Any) -> str:
    built = tabular(folder, **dataset)
    return start.check_unseen(built, prepare(built, folder / "cache", start.known))


def test_a_run_that_saw_earlier_days_alone_may_be_started_from(tmp_path: Path) -> None:
    start = start_from(tmp_path, **day(20220505, until=20220506))
    assert start.record["seen"]["until"] == 20220504
    assert check(start, tmp_path, **day(20220505)).endswith("by day")
    assert start_from(tmp_path, "valid", **day(20220505, 20220506)).record["seen"]["until"] == 20220505


def test_rows_that_it_was_trained_or_selected_on_are_no_evaluation_rows(tmp_path: Path) -> None:
    trained = start_from(tmp_path, **day(20220506))
    with pytest.raises(InputError, match="on rows until day 20220505; valid begins at 20220505"):
        check(trained, tmp_path, **day(20220505))
    selected = start_from(tmp_path, "valid", **day(20220505, until=20220507))
    with pytest.raises(InputError, match="on rows until day 20220506; valid begins at 20220506"):
        check(selected, tmp_path, **day(20220506))
    with pytest.raises(InputError, match="on rows until day 20220506; valid begins at 20220504"):
        check(selected, tmp_path, **day(20220504, test_from=20220509))


def test_an_ancestor_counts_as_the_run_itself_does(tmp_path: Path) -> None:
    older = start_from(tmp_path, **day(20220508)).lineage
    newer = start_from(tmp_path, lineage=[{**older[0], "run": "older"}], **day(20220503))
    assert [entry["until"] for entry in newer.lineage] == [20220507, 20220502]
    with pytest.raises(InputError, match=r"older, an ancestor of .* on rows until day 20220507"):
        check(newer, tmp_path, **day(20220505))
    assert check(newer, tmp_path, **day(20220508))


def test_on_the_same_log_and_split_names_decide(tmp_path: Path) -> None:
    at_random: dict[str, Any] = {"split": {"by": "random", "valid": 0.3}}
    assert check(start_from(tmp_path, **at_random), tmp_path, **at_random).endswith("of the same log")
    two_heads = {"tasks": {"click": {}, "buy": {}}}
    assert check(start_from(tmp_path, **at_random), tmp_path, **at_random, **two_heads)
    with pytest.raises(InputError, match="on valid, a split of this run too"):
        check(start_from(tmp_path, "valid", **at_random), tmp_path, **at_random)


def test_what_neither_names_nor_times_decide_is_refused(tmp_path: Path) -> None:
    start = start_from(tmp_path, split={"by": "random", "valid": 0.3})
    with pytest.raises(InputError, match=r"another log or split, and dataset\.time does not tell them apart"):
        check(start, tmp_path, split={"by": "random", "valid": 0.3, "seed": 1})


@pytest.fixture(scope="module")
def april(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("april")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = funrec.run_experiment("mmoe", *SMALL, *APRIL, "dataset.drop=[is_like]")
    return Run(place / done.path, done.record)


@pytest.mark.slow
def test_a_warm_start_says_what_it_took_over_and_keeps_its_lineage(
    april: Run, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warm = funrec.run_experiment("mmoe", *SMALL, *MAY, f"trainer.start_from={april.path}", verbose=True)
    started = warm.record["started_from"]
    assert started["run"] == str(april.path) and started["new_heads"] == ["is_like"] and started["new_ids"]["user_id"]
    assert "towers/kernel" in started["in_part"] and not started["anew"]
    assert warm.record["lineage"] == [{"run": str(april.path), **april.record["seen"]}]
    said = capsys.readouterr().err
    assert "New heads: is_like." in said and "of user_id" in said
    # It scores raw rows, and is explained, without the run that it started from.
    april_users = april.predictor.inputs.vocabularies["user_id"].keys
    assert warm.predictor.inputs.vocabularies["user_id"].keys.head(len(april_users)).equals(april_users)
    assert len(explain(warm.path, rows=200, repeats=2))


@pytest.mark.slow
def test_a_warm_start_begins_where_the_other_run_ended(april: Run, workdir: Path) -> None:
    frozen = ("optimizer.learning_rate=1e-12", "dataset.drop=[is_like]")
    warm = funrec.run_experiment("mmoe", *SMALL, *MAY, *frozen, f"trainer.start_from={april.path}")
    known = april.predictor.inputs.vocabularies
    rows = build(compose(SMALL)["dataset"], Synthetic, "dataset").generate(0, 3000)
    rows = rows.filter(pl.col(name).is_in(vocabulary.keys.implode()) for name, vocabulary in known.items())
    assert rows.height > 500
    assert np.allclose(warm.predict(rows), april.predict(rows), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (("dataset.drop=[tab]",), "without tab"),
        (("baselines=true",), "baselines should be false"),
        (("trainer.start_from=nowhere",), "nowhere should be a finished run"),
        (("dataset.split.valid_from=20220429", "dataset.where=null"), "valid begins at 20220429"),
    ],
)
def test_what_cannot_be_a_warm_start_is_refused_in_one_line(
    april: Run, funrec: Command, workdir: Path, changes: tuple[str, ...], problem: str
) -> None:
    done = funrec("run", "model=mmoe", *SMALL, *MAY, f"trainer.start_from={april.path}", *changes)
    assert done.code == 2 and problem in done.err
    assert done.err.strip().splitlines()[-1].startswith("funrec: ")
