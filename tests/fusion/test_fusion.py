"""`funrec fuse`: objectives and formulas as text, a search whose best answer is known, and what users get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command
from runs import TASKS, noisy, planted, write_run

from funrec import InputError
from funrec.runs.formula import format_weights, parse_formula, read_fusion
from funrec.schema import Task

pytest.importorskip("optuna", reason='needs Optuna: pip install "funrec-lab[tune]"')

from funrec.fusion.fuse import fuse
from funrec.fusion.objective import Objective
from funrec.fusion.rows import RunRows
from funrec.fusion.search import Trial, pareto_front
from funrec.metrics import build_metrics, group_auc


def test_a_formula_is_a_sum_of_products_of_powers() -> None:
    values = {"p_a": np.array([0.5, 0.25]), "logit_b": np.array([-1.0, 2.0])}
    found = parse_formula("2 * p_a^2 - .5*logit_b * p_a + 1e1", list(values)).value(values)
    np.testing.assert_allclose(found, 2 * values["p_a"] ** 2 - 0.5 * values["logit_b"] * values["p_a"] + 10)
    assert parse_formula("-p_a", ["p_a"]).value(values).tolist() == [-0.5, -0.25]


def test_written_weights_are_read_back() -> None:
    values = {"p_a": np.array([0.5, 0.25]), "p_b": np.array([0.1, 0.2])}
    text = format_weights(["p_a", "p_b"], [1.0, -0.123456], is_product=False)
    assert text == "p_a - 0.1235 * p_b"
    np.testing.assert_allclose(parse_formula(text, values).value(values), values["p_a"] - 0.1235 * values["p_b"])
    text = format_weights(["p_a", "p_b", "p_c"], [1.0, -0.5, 0.0], is_product=True)
    assert text == "p_a * p_b^-0.5"
    np.testing.assert_allclose(parse_formula(text, values).value(values), values["p_a"] / np.sqrt(values["p_b"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_lick", "should be over p_click, p_like. Received: p_lick. Did you mean p_click?"),
        ("__import__('os')", "Received: __import__"),
        ("p_click +", "should have a number or a name where it has its end"),
        ("p_click p_like", "should have +, -, * or ^ where it has p_like"),
        ("p_click ^ p_like", "should have a number where it has p_like"),
        ("p_click / p_like", "where it has /"),
        ("", "should have a number or a name where it has its end"),
        ("2", "should be of finite numbers and p_click, p_like. Received: 2."),
        ("1e999 * p_like", "should be of finite numbers and p_click, p_like. Received: 1e999 * p_like."),
    ],
)
def test_what_is_no_formula_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_formula(text, ["p_click", "p_like"])
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_power_that_a_row_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="should give a number for every row"):
        parse_formula("logit_a^0.5", ["logit_a"]).value({"logit_a": np.array([1.0, -1.0])})


def test_a_head_that_the_objective_avoids_counts_against_the_score() -> None:
    aim = Objective("gauc_click - 2*gauc_like", TASKS, build_metrics({}))
    assert aim.coefficients == {"gauc_click": 1, "gauc_like": -2}
    assert aim.is_avoided("like") and not aim.is_avoided("click") and not aim.is_avoided("other")


def test_the_pareto_front_keeps_what_nothing_beats() -> None:
    values = [(0.6, 0.6), (0.7, 0.5), (0.65, 0.55), (0.6, 0.55), (0.7, 0.5)]
    trials = [Trial("additive", np.zeros(2), str(place), np.array(pair)) for place, pair in enumerate(values)]
    assert [tuple(trial.values) for trial in pareto_front(trials, np.ones(2))] == [(0.6, 0.6), (0.65, 0.55), (0.7, 0.5)]
    avoided = [tuple(trial.values) for trial in pareto_front(trials, np.array([1, -1]))]
    assert avoided == [(0.7, 0.5)]


def with_a_known_utility(users: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return rows whose last label follows `2 a + b + 0.5 c` of three heads' log odds, and the heads' scores."""
    draw = np.random.default_rng(7)
    group = np.repeat(np.arange(users), 12)
    heads = draw.normal(size=(group.size, 3)) * [1.0, 1.5, 0.7] + draw.normal(size=(users, 3))[group]
    logits = np.column_stack([heads, heads @ [2.0, 1.0, 0.5]])
    labels = (draw.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    scores = np.column_stack([heads, np.zeros(group.size)]).astype(np.float32)
    return {"group": group, "labels": labels}, scores


def test_the_search_comes_within_a_percent_of_a_known_best(tmp_path: Path) -> None:
    rows, scores = with_a_known_utility(users=2000)
    tasks = tuple(Task(name, name) for name in ("a", "b", "c", "satisfied"))
    run = write_run(tmp_path / "run", rows, scores, tasks=tasks)
    found = fuse(run, "gauc_satisfied", heads=["a", "b", "c"], trials=60)
    _, reported = RunRows(run).parts
    fused = parse_formula(found.formula, reported.columns).value(reported.columns)
    best = parse_formula("2*logit_a + logit_b + 0.5*logit_c", reported.columns).value(reported.columns)

    def utility_of(score: np.ndarray) -> float:
        return group_auc(reported.users, reported.labels["satisfied"], score.astype(np.float32)).value - 0.5

    assert utility_of(fused) > 0.99 * utility_of(best)
    assert utility_of(best) > 1.05 * utility_of(reported.columns["logit_a"])  # there was something to find
    assert found.table[found.formula]["gauc_satisfied"].value == pytest.approx(utility_of(fused) + 0.5)
    assert found.verdicts[0].startswith("gauc_satisfied: the fused score beats a alone")


def test_a_product_with_a_head_that_is_not_positive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    rows, scores = with_a_known_utility(users=30)
    rows = {"group": rows["group"], "labels": rows["labels"][:, :2]}
    tasks = (Task("a", "a"), Task("b", "b"))
    run = write_run(tmp_path / "run", rows, np.maximum(scores[:, :2], 0), tasks=tasks, uncalibrated=["b"])
    with pytest.raises(InputError, match=r"score_b is 0 in some row\. Take --kinds additive,linear, or leave"):
        fuse(run, "gauc_a", kinds=["multiplicative"])


def test_what_the_objective_avoids_is_better_where_it_is_less(tmp_path: Path) -> None:
    rows, scores = with_a_known_utility(users=300)
    rows = {"group": rows["group"], "labels": rows["labels"][:, :2]}
    run = write_run(tmp_path / "run", rows, scores[:, :2], tasks=(Task("a", "a"), Task("b", "b")))
    found = fuse(run, "gauc_a - gauc_b", trials=30)
    assert "- " in found.formula or "^-" in found.formula
    by_pair = {(one.head, one.metric): one for one in found.differences}
    assert by_pair["a", "gauc_b"].estimate.value < 0 and by_pair["a", "gauc_b"].mark == "better"


def test_formulas_are_reported_on_users_that_the_search_has_not_seen(tmp_path: Path) -> None:
    rows = planted(users=60)
    run = write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0))
    frame = RunRows(run)._frame
    searched, reported = frame["group"].unique(), frame["group"].unique()
    parts = RunRows(run, seed=3).parts
    assert sum(map(len, parts)) == len(frame) and min(map(len, parts)) > 0.3 * len(frame)
    assert sum(np.unique(part.users).size for part in parts) == searched.len() == reported.len()


def test_formulas_are_reported_on_the_test_split_where_there_is_one(tmp_path: Path) -> None:
    rows = planted(users=80)
    split = np.where(rows["group"] % 3 == 0, "test", "valid")
    run = write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0), split=split)
    searched, reported = RunRows(run).parts
    assert (searched.name, reported.name) == ("the valid split", "the test split")
    assert (len(searched), len(reported)) == ((split == "valid").sum(), (split == "test").sum())


def test_the_command_prints_and_keeps_what_it_found(tmp_path: Path, funrec: Command) -> None:
    rows = planted(users=80)
    run = write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0))
    done = funrec("fuse", str(run), "--objective", "gauc_click + 2*gauc_like", "--trials", "20")
    kept = read_fusion(run)
    assert done.code == 0 and kept is not None
    assert done.out.splitlines()[0] == kept["formula"]
    assert "click alone" in done.out and "Pareto front" in done.out and kept["verdicts"][0] in done.out
    assert kept["trials"] == 60 and set(kept["front"][0]["report"]) == {"gauc_click", "gauc_like"}
    own = "p_click^0.5 * p_like"
    assert funrec("fuse", str(run), "--objective", "auc_click", "--formula", own).out.startswith(own)
    assert (read_fusion(run) or {})["formula"] == own


def test_products_are_left_out_by_default_where_a_head_can_be_0_and_it_is_said(tmp_path: Path, funrec: Command) -> None:
    rows = planted(users=60)
    scores = np.maximum(noisy(rows, 1.0, 0), 0)
    run = write_run(tmp_path / "run", rows, scores, uncalibrated=["like"])
    done = funrec("fuse", str(run), "--objective", "gauc_click + gauc_like", "--trials", "10")
    assert done.code == 0
    assert "Products were not tried: score_like is 0 in some row. 20 formulas tried" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "gauc_clik"], "Did you mean gauc_click?"),
        (["--objective", "ece_click"], "--objective should be over auc_click"),
        (["--objective", "gauc_click * gauc_like"], "--objective should be a sum of metrics"),
        (
            ["--objective", "gauc_click", "--formula", "p_click + p_buy"],
            "--formula should be over p_click",
        ),
        (["--objective", "gauc_click", "--heads", "click,lik"], "--heads: no such head lik. Did you mean like?"),
        (["--objective", "gauc_click", "--heads", "click"], "should have two heads or more. Received: click."),
        (["--objective", "gauc_click", "--kinds", "geometric"], "--kinds should be of additive"),
        (["--objective", "gauc_click", "--trials", "0"], "--trials should be at least 10. Received: 0."),
    ],
)
def test_what_cannot_be_fused_is_refused_in_one_line(
    tmp_path: Path, funrec: Command, arguments: list[str], message: str
) -> None:
    rows = planted(users=20)
    run = write_run(tmp_path / "run", rows, noisy(rows, 1.0, 0))
    done = funrec("fuse", str(run), *arguments)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert not (run / "fusion.json").exists()
