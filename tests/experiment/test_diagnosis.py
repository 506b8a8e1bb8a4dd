"""A run names what is wrong with it, in its record and in a line each, and says nothing when nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import Command
from tables import write_kuairand

import funrec as package
from funrec.comparison.compare import compare_runs
from funrec.experiment.run import Run
from funrec.metrics import auc
from funrec.runs.tables import selection_note

pytestmark = pytest.mark.slow

SMALL = ("dataset.rows=6000", "trainer=smoke")
TASKS = {"click": {"label": "click"}, "save": {"label": "save"}}


def shop(seed: int, rows: int = 4000) -> pl.DataFrame:
    """Clicks and saves that depend on different sides of a user and an item."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, 40, rows), random.integers(0, 40, rows)
    chance = {
        "click": (user % 2) * 1.6 - 0.8 + (item % 2) * 1.2 - 0.6,
        "save": (user % 3) * 1.2 - 1.2 + item % 5 * 0.4 - 0.8,
    }
    labels = {name: (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int) for name, logit in chance.items()}
    return pl.DataFrame({"user": user, "item": item, "place": random.random(rows), **labels})


def run_shop(
    folder: Path, train: pl.DataFrame, valid: pl.DataFrame, *overrides: str, model: str = "shared_bottom"
) -> Run:
    train.write_csv(folder / "train.csv")
    valid.write_csv(folder / "valid.csv")
    return package.run_experiment(
        model,
        "dataset=tabular",
        f"dataset.train={folder / 'train.csv'}",
        f"dataset.valid={folder / 'valid.csv'}",
        "+dataset.features={user:{},item:{}}",
        "+dataset.tasks={click:{},save:{}}",
        "dataset.group=user",
        "dataset.item=item",
        "trainer.epochs=3",
        "trainer.batch_size=256",
        *overrides,
    )


def findings(run: Run) -> list[tuple[str, ...]]:
    return [(found["kind"], *found["subjects"]) for found in run.record["diagnosis"]["findings"]]


def test_a_clean_run_has_no_finding_and_its_matrix_is_that_of_its_scores(workdir: Path) -> None:
    run = run_shop(workdir, shop(0), shop(1))
    assert findings(run) == []
    assert "Warning" not in (run.path / "funrec.log").read_text()
    saved, matrix = run.predictions(), run.record["diagnosis"]
    for row, head in enumerate(matrix["tasks"]):
        for column, task in enumerate(matrix["tasks"]):
            expected = auc(saved[f"label_{task}"], saved[f"score_{head}"])
            assert matrix["auc"][row][column] == pytest.approx(expected, abs=1e-12)
    assert matrix["auc"][0][0] == pytest.approx(run.metrics["auc_click"], abs=1e-12)


def test_swapped_labels_are_named(workdir: Path) -> None:
    """The training file has its two label columns in each other's place."""
    run = run_shop(workdir, shop(0).rename({"click": "save", "save": "click"}), shop(1))
    assert ("swapped", "click", "save") in findings(run)
    (line,) = (
        line for line in (run.path / "funrec.log").read_text().splitlines() if "rank each other's labels" in line
    )
    assert "WARNING" in line
    assert "Check dataset.tasks" in line


def test_a_leaked_label_is_named(workdir: Path) -> None:
    leaky = [table.with_columns((pl.col("save") * 7 + 3).alias("badge")) for table in (shop(0), shop(1))]
    run = run_shop(workdir, *leaky, "+dataset.features.badge={}", "optimizer.learning_rate=0.001")
    (found,) = run.record["diagnosis"]["findings"]
    assert (found["kind"], found["subjects"]) == ("too_good", ["save"])
    assert found["message"].endswith(
        "badge alone ranks save with an AUC of 1.0000: dataset.drop=[badge] leaves it out."
    )


def test_a_leak_with_noise_is_named_too(workdir: Path) -> None:
    """A number that tells nearly all saves: the AUC stays below what nobody would believe."""
    random = np.random.default_rng(5)
    leaky = [
        table.with_columns(delay=pl.col("save") * -2.6 + random.normal(size=table.height))
        for table in (shop(0), shop(1))
    ]
    run = run_shop(workdir, *leaky, "+dataset.features.delay={kind:numeric}")
    assert findings(run) == [("leak", "save", "delay")]
    assert 0.95 < run.metrics["auc_save"] < 0.99


def test_tasks_of_one_label_are_named(workdir: Path) -> None:
    copied = [table.with_columns(save=pl.col("click")) for table in (shop(0), shop(1))]
    assert findings(run_shop(workdir, *copied)) == [("equal_labels", "click", "save")]


def test_a_user_who_holds_most_positives_and_a_rate_that_changes_are_named(workdir: Path) -> None:
    """In validation a robot saves everything, and clicks are half as many as in training."""
    train, valid = shop(0), shop(1)
    robot = (pl.col("user") == 7).cast(pl.Int64)
    valid = valid.with_columns(save=robot, click=pl.col("click") * (pl.int_range(pl.len()) % 2))
    found = findings(run_shop(workdir, train, valid))
    assert ("concentrated", "save") in found
    assert {("off_in_mean", "save"), ("off_in_mean", "click")} <= set(found)


def test_a_constant_head_is_named(workdir: Path) -> None:
    """A task of no weight learns nothing, and a logistic regression starts at the mean rate."""
    run = run_shop(workdir, shop(0), shop(1), "+dataset.tasks.save.weight=0", model="logistic")
    assert ("constant", "save") in findings(run)


def test_an_unknown_half_of_a_vocabulary_is_named(workdir: Path) -> None:
    run = run_shop(workdir, shop(0), shop(1).with_columns(pl.col("item") + 25))
    assert ("out_of_vocabulary", "item") in findings(run)
    assert ("out_of_vocabulary", "user") not in findings(run)


# Slices, reliability, NDCG


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sliced"))
        run = package.run_experiment(
            "mmoe", *SMALL, "metrics.slices=[tab,user_active_degree]", "metrics/extra=[ndcg_at_k]"
        )
        return Run(run.path.resolve(), run.record)


def test_slices_are_measured_on_their_rows_alone(sliced: Run) -> None:
    parts = {(part["slice"], part["value"]): part for part in sliced.record["slices"]}
    assert {"user", "item", "tab", "user_active_degree"} == {name for name, _ in parts}
    saved = sliced.predictions()
    train_users = parts["user", "known"]["rows"] + parts.get(("user", "cold"), {"rows": 0})["rows"]
    assert train_users == len(saved)
    assert sum(part["rows"] for (name, _), part in parts.items() if name == "tab") == len(saved)
    is_log = sliced.record["config"]["dataset"]
    from funrec.config.build import build
    from funrec.data.datasets.base import Dataset

    dataset = build(is_log, Dataset, "dataset")
    raw = dataset.generate(0, 6000)["tab"].to_numpy()[saved["row"]]
    for value in np.unique(raw):
        rows = saved[raw == value]
        part = parts["tab", str(value)]
        assert part["rows"] == len(rows)
        if "auc_is_click" in part["metrics"]:
            assert part["metrics"]["auc_is_click"] == pytest.approx(auc(rows.label_is_click, rows.score_is_click))


def test_a_slice_without_likes_says_why_it_has_no_auc(sliced: Run) -> None:
    for part in sliced.record["slices"]:
        for task in ("is_click", "long_view", "is_like"):
            assert (f"auc_{task}" in part["metrics"]) != (f"auc_{task}" in part["absent"])


def test_slices_and_diagnosis_print_as_tables(sliced: Run) -> None:
    text = sliced.slices()
    assert all(name in text for name in ("head", "tail", "tab", "user_active_degree", "auc_is_click"))
    assert "val_user" not in text
    assert sliced.diagnosis().splitlines()[0] == "AUC of every head (row) on every task's labels (column)"
    assert f"{sliced.metrics['auc_is_like']:.4f}" in sliced.diagnosis()


def test_reliability_is_recorded(sliced: Run) -> None:
    bins = sliced.record["reliability"]["is_click"]
    rows = np.array(bins["rows"])
    assert rows.sum() == len(sliced.predictions())
    assert np.average(bins["observed"], weights=rows) == pytest.approx(sliced.predictions()["label_is_click"].mean())


def test_a_chosen_metric_is_a_column_of_table_slices_and_history(sliced: Run) -> None:
    assert 0 < sliced.metrics["ndcg_at_10_is_click"] <= 1
    history = sliced.history()
    for column in ("ndcg_at_10_is_click", "ndcg_at_10_macro"):
        assert column in sliced.table()
        assert history[column].max() == pytest.approx(sliced.metrics[column], abs=1e-12)
    assert "ndcg_at_10_is_click" in sliced.slices()


def test_random_exposure_stands_beside_standard_exposure(sliced: Run) -> None:
    record: dict[str, Any] = json.loads(json.dumps(sliced.record))
    assert "random" not in sliced.diagnosis()
    record["metrics"] |= {
        "auc_is_click@random": record["metrics"]["auc_is_click"] - 0.05,
        "val_user_is_click@random": 9,
    }
    text = Run(sliced.path, record).diagnosis()
    assert "| -0.0500" in text.replace("     ", " ").replace("  ", " ")
    assert "val_user" not in text


def test_a_run_with_random_exposure_has_slices_of_both_and_their_difference(workdir: Path, funrec: Command) -> None:
    write_kuairand(workdir / "archive")
    done = funrec(
        "run",
        "model=logistic",
        "trainer=smoke",
        "dataset=kuairand_pure",
        "dataset.root=archive",
        "dataset.split.valid_from=20220506",
        "dataset.random_exposure=true",
        "dataset.drop=[is_live_streamer,is_video_author,follow_user_num_range,fans_user_num_range,upload_type,music_type,"
        "friend_user_num_range,register_days_range,visible_status]",
        "report.diagnosis=true",
    )
    assert done.code == 0, done.err
    (path,) = workdir.rglob("record.json")
    record = json.loads(path.read_text())
    assert {part["split"] for part in record["slices"]} == {"valid", "random"}
    difference = record["metrics"]["auc_is_click@random"] - record["metrics"]["auc_is_click"]
    (line,) = (line for line in done.out.splitlines() if line.startswith("| auc_is_click ") and line.count("|") == 5)
    assert line.split("|")[4].strip() == f"{difference:+.4f}"


def test_a_run_of_before_says_that_it_has_none(sliced: Run) -> None:
    old = {key: value for key, value in sliced.record.items() if key not in ("diagnosis", "slices")}
    assert "was made before" in Run(sliced.path, old).diagnosis()
    assert "was made before" in Run(sliced.path, old).slices()


def test_a_table_of_rows_that_chose_the_epoch_says_so() -> None:
    rows = {"valid": "a"}
    assert selection_note({"selected_on": None, "row_fingerprint": rows}) == ""
    alone = selection_note({"selected_on": "valid", "row_fingerprint": rows})
    assert alone.startswith("Selected on valid, the rows reported, so that the metrics are optimistic:")
    assert "dataset.split.test_from" in alone
    held_back = selection_note({"selected_on": "valid", "row_fingerprint": rows | {"test": "b", "random": "c"}})
    assert (
        held_back == "Selected on valid, whose metrics are therefore optimistic; nothing was chosen on test and random."
    )


# The command line


def test_tables_are_printed_when_asked_for(workdir: Path, funrec: Command) -> None:
    done = funrec("run", "model=logistic", *SMALL, "report.diagnosis=true", "report.slices=true")
    assert done.code == 0, done.err
    assert "AUC of every head" in done.out
    assert "| head " in done.out and "| tail " in done.out


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("metrics.slices=[tabb]", "metrics.slices: no such column tabb in the rows of Synthetic. Did you mean tab?"),
        ("metrics.slices=tab", "metrics.slices should be a list of columns, such as [tab]. Received: tab."),
        ("baselines=yes_please", "baselines should be true or false. Received: yes_please."),
    ],
)
def test_bad_settings_are_refused_in_one_line(workdir: Path, funrec: Command, override: str, reason: str) -> None:
    done = funrec("run", "model=logistic", *SMALL, override)
    assert done.code == 2
    assert done.err.splitlines()[-1] == f"funrec: {reason}"
    assert not list(workdir.rglob("record.json"))


def test_a_run_says_that_it_is_nearly_another_in_its_record_its_diagnosis_and_a_comparison(workdir: Path) -> None:
    """The wide part alone moves: its steps are a thousand times those of the network."""
    options = ("model/wide=linear", "model.wide.scale=1000", "optimizer.learning_rate=1e-5")
    run = run_shop(workdir, shop(0), shop(1), *options, model="mmoe")
    assert run.record["label"] == "mmoe + linear"
    assert ("nearly_wide", "click", "save") in findings(run)
    assert "this is the logistic regression" in run.diagnosis()
    assert "Spread of every tower's logit" in run.diagnosis()
    assert any("this is the logistic regression" in str(note) for note in compare_runs([run.path]).notes)
