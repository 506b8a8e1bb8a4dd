"""Planted mistakes are named, each by its own name, and clean runs are not accused of any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from funrec.metrics import auc
from funrec.metrics.base import sigmoid
from funrec.metrics.diagnosis import Finding, find_problems
from funrec.metrics.heads import HeadByLabel, Rows, head_by_label
from funrec.schema import Task

CLICK, LIKE, VIEW = 0, 1, 2
TASKS = (Task("is_click"), Task("is_like", after="is_click"), Task("long_view"))


def log_of_choices(seed: int = 0, rows: int = 6000, users: int = 400, items: int = 300) -> Rows:
    """Clicks, likes inside clicks (rare, and easier to rank) and long views (much like clicks), all scored well.

    Scores are the true logits plus an error per user and item, as a trained model has.
    """
    random = np.random.default_rng(seed)
    user, item = random.integers(0, users, rows), random.integers(0, items, rows)
    shared = random.normal(0, 0.5, users)[user] + random.normal(0, 0.5, items)[item]
    own = [random.normal(0, size, users)[user] + random.normal(0, size, items)[item] for size in (0.4, 0.9, 0.4)]
    click = shared + own[CLICK]
    like_given_click = -2.0 + 0.5 * shared + own[LIKE]
    view = -0.5 + shared + own[VIEW]
    like = np.log(p := sigmoid(click) * sigmoid(like_given_click)) - np.log1p(-p)
    clicked = random.random(rows) < sigmoid(click)
    liked = clicked & (random.random(rows) < sigmoid(like_given_click))
    viewed = random.random(rows) < sigmoid(view)
    error = random.normal(0, 0.2, (3, users))[:, user] + random.normal(0, 0.2, (3, items))[:, item]
    return Rows(
        TASKS,
        np.stack([clicked, liked, viewed], axis=1).astype(np.float32),
        (np.stack([click, like, view], axis=1) + error.T).astype(np.float32),
        None,
        {"user": user, "item": item},
        {"user": np.arange(users) + 1000, "item": np.arange(items) + 5000},
    )


def with_scores(rows: Rows, heads: list[int]) -> Rows:
    return replace(rows, scores=rows.scores[:, heads])


def problems(rows: Rows) -> list[Finding]:
    return find_problems(rows, head_by_label(rows))


def kinds(rows: Rows) -> list[tuple[str, ...]]:
    return [(finding.kind, *finding.subjects) for finding in problems(rows)]


def test_clean_runs_are_not_accused() -> None:
    accused = {seed: found for seed in range(150) if (found := kinds(log_of_choices(seed)))}
    assert not accused


def test_small_clean_runs_are_not_accused_either() -> None:
    assert not [seed for seed in range(150) if kinds(log_of_choices(seed, rows=900, users=60))]


def test_heads_that_know_nothing_are_accused_of_that_alone() -> None:
    for seed in range(100):
        rows = log_of_choices(seed)
        random = np.random.default_rng(seed + 1000)
        noise = random.normal(0, 0.1, rows.scores.shape) + np.log(rows.labels.mean(0) / (1 - rows.labels.mean(0)))
        found = kinds(replace(rows, scores=noise.astype(np.float32)))
        assert {kind for kind, *_ in found} <= {"chance"}, seed


@pytest.mark.parametrize("pair", [(CLICK, LIKE), (CLICK, VIEW), (LIKE, VIEW)])
def test_two_swapped_heads_are_named(pair: tuple[int, int]) -> None:
    heads = [0, 1, 2]
    heads[pair[0]], heads[pair[1]] = heads[pair[1]], heads[pair[0]]
    for seed in range(20):
        found = [finding for finding in problems(with_scores(log_of_choices(seed), heads)) if finding.kind == "swapped"]
        assert [finding.subjects for finding in found] == [tuple(TASKS[place].name for place in pair)], seed


def test_heads_shifted_by_one_are_named_together() -> None:
    found = problems(with_scores(log_of_choices(), [1, 2, 0]))
    (swapped,) = (finding for finding in found if finding.kind == "swapped")
    assert set(swapped.subjects) == {"is_click", "is_like", "long_view"}


def test_a_head_that_has_learned_too_little_is_outranked_not_swapped() -> None:
    rows = log_of_choices()
    random = np.random.default_rng(7)
    weak = 0.05 * rows.scores[:, VIEW] + random.normal(0, 1, len(rows.scores)) * 0.2
    found = kinds(replace(rows, scores=np.stack([rows.scores[:, 0], rows.scores[:, 1], weak], 1).astype(np.float32)))
    assert ("outranked", "long_view", "is_click") in found
    assert "swapped" not in {kind for kind, *_ in found}


def test_an_easier_task_that_a_head_also_ranks_well_is_no_mistake() -> None:
    rows = log_of_choices()
    matrix = head_by_label(rows)
    assert matrix.auc[LIKE, LIKE] > matrix.auc[CLICK, CLICK] + 0.02  # likes are easier to rank
    assert not matrix.better_heads()


@pytest.mark.parametrize("shape", ["a copy", "a shifted copy", "a scaled copy"])
def test_collapsed_heads_are_named(shape: str) -> None:
    rows = log_of_choices()
    scores = rows.scores.copy()
    scores[:, VIEW] = {"a copy": 1, "a shifted copy": 1, "a scaled copy": 0.5}[shape] * scores[:, CLICK]
    scores[:, VIEW] -= 0.7 if shape == "a shifted copy" else 0
    assert ("equal_scores", "is_click", "long_view") in kinds(replace(rows, scores=scores))


def test_a_constant_head_is_named_once() -> None:
    rows = log_of_choices()
    scores = rows.scores.copy()
    scores[:, LIKE] = np.log(rows.labels[:, LIKE].mean() / (1 - rows.labels[:, LIKE].mean()))
    assert kinds(replace(rows, scores=scores)) == [("constant", "is_like")]


def test_two_constant_heads_are_two_constant_heads() -> None:
    rows = log_of_choices()
    scores = rows.scores.copy()
    scores[:, [CLICK, VIEW]] = [0.0, 0.0]
    found = kinds(replace(rows, scores=scores))
    assert [finding for finding in found if finding[0] == "constant"] == [
        ("constant", "is_click"),
        ("constant", "long_view"),
    ]
    assert "equal_scores" not in {kind for kind, *_ in found}


def test_a_leaked_label_is_named() -> None:
    rows = log_of_choices()
    scores = rows.scores.copy()
    scores[:, LIKE] += 12 * (rows.labels[:, LIKE] - 0.5)
    assert ("too_good", "is_like") in kinds(replace(rows, scores=scores))


def test_a_reversed_label_is_named() -> None:
    rows = log_of_choices()
    labels = rows.labels.copy()
    labels[:, VIEW] = 1 - labels[:, VIEW]
    assert ("worse_than_chance", "long_view") in kinds(replace(rows, labels=labels))


@pytest.mark.parametrize("holder", ["user", "item"])
def test_whoever_holds_most_positives_is_named(holder: str) -> None:
    rows = log_of_choices()
    liked = np.flatnonzero(rows.labels[:, LIKE])
    codes = rows.holders[holder].copy()
    codes[liked[: int(0.6 * liked.size)]] = 7
    found = [f for f in problems(replace(rows, holders={**rows.holders, holder: codes})) if f.kind == "concentrated"]
    assert [finding.subjects for finding in found] == [("is_like",)]
    assert f"{holder} {rows.names[holder][7]} holds 6" in found[0].message


def test_predictions_off_in_the_mean_are_named() -> None:
    rows = log_of_choices()
    scores = rows.scores.copy()
    scores[:, CLICK] += 1.0
    found = problems(replace(rows, scores=scores))
    assert [(finding.kind, finding.subjects) for finding in found] == [("off_in_mean", ("is_click",))]
    ratio = sigmoid(scores[:, CLICK]).sum() / rows.labels[:, CLICK].sum()
    assert f"{ratio:.2f} times as often" in found[0].message


def test_predictions_off_in_the_mean_by_chance_are_not() -> None:
    """A dozen positives are off by a fifth half of the time."""
    off = 0
    for seed in range(100):
        rows = log_of_choices(seed, 300, 60)
        off += abs(sigmoid(rows.scores[:, LIKE]).sum() / rows.labels[:, LIKE].sum() - 1) > 0.1
        assert "off_in_mean" not in {finding.kind for finding in problems(rows)}
    assert off > 30


def test_masked_rows_have_no_say() -> None:
    rows = log_of_choices()
    masks = np.ones(rows.labels.shape, bool)
    masks[:, VIEW] = rows.labels[:, CLICK] == 1
    labels = np.where(masks, rows.labels, 1 - rows.labels)  # what stands in masked cells is wrong on purpose
    matrix = head_by_label(replace(rows, labels=labels, masks=masks))
    kept = masks[:, VIEW]
    for head in range(3):
        assert matrix.auc[head, VIEW] == pytest.approx(auc(rows.labels[kept, VIEW], rows.scores[kept, head]), abs=1e-12)


def test_a_regression_task_is_left_out() -> None:
    rows = log_of_choices()
    tasks = (TASKS[0], TASKS[1], Task("watch_time", kind="regression"))
    scores = rows.scores.copy()
    scores[:, VIEW] = 0
    found = replace(rows, tasks=tasks, scores=scores)
    assert head_by_label(found).tasks == ("is_click", "is_like")
    assert not kinds(found)


def test_a_label_of_one_class_has_an_empty_column() -> None:
    rows = log_of_choices()
    labels = rows.labels.copy()
    labels[:, LIKE] = 0
    matrix = head_by_label(replace(rows, labels=labels))
    assert np.isnan(matrix.auc[:, LIKE]).all()
    assert np.isfinite(matrix.auc[:, [CLICK, VIEW]]).all()
    assert not find_problems(replace(rows, labels=labels), matrix)


def test_swapped_labels_of_tasks_much_alike_are_named() -> None:
    """Clicks and long views rank each other nearly as well: a swap costs each head less than 0.02."""
    rows = log_of_choices(rows=20_000, users=2000)
    blend = rows.scores[:, [CLICK, VIEW]] @ np.array([[0.6, 0.4], [0.4, 0.6]], np.float32)
    alike = replace(rows, scores=np.stack([blend[:, 0], rows.scores[:, LIKE], blend[:, 1]], axis=1))
    matrix = head_by_label(with_scores(alike, [VIEW, LIKE, CLICK]))
    assert 0.005 < matrix.gain[CLICK, VIEW] < 0.02
    assert 0.005 < matrix.gain[VIEW, CLICK] < 0.02
    assert ("swapped", "is_click", "long_view") in kinds(with_scores(alike, [VIEW, LIKE, CLICK]))
    assert not [found for found in kinds(alike) if found[0] in ("swapped", "outranked")]


def test_tasks_of_one_label_are_named_and_their_heads_are_not() -> None:
    rows = log_of_choices()
    copied = replace(rows, labels=rows.labels[:, [CLICK, LIKE, CLICK]], scores=rows.scores[:, [CLICK, LIKE, CLICK]])
    assert kinds(copied) == [("equal_labels", "is_click", "long_view")]


def test_a_head_that_learned_nothing_is_named_where_there_are_rows_enough_to_tell() -> None:
    """An untrained head of a task of no weight ranks at random."""
    for rows, expected in ((20_000, [("chance", "is_click")]), (1500, [])):
        log = log_of_choices(rows=rows, users=rows // 10)
        scores = log.scores.copy()
        scores[:, CLICK] = np.random.default_rng(0).normal(size=rows)
        assert [found for found in kinds(replace(log, scores=scores)) if found[0] == "chance"] == expected


def test_every_message_is_one_line_that_says_what_to_check() -> None:
    rows = with_scores(log_of_choices(), [LIKE, LIKE, CLICK])
    found = problems(replace(rows, scores=rows.scores + np.float32(2)))
    assert len(found) >= 3
    assert all("Check " in finding.message and "\n" not in finding.message for finding in found)


# Intervals


def test_the_error_of_a_gain_is_that_of_a_bootstrap_over_users() -> None:
    rows = log_of_choices(rows=3000, users=200)
    matrix = head_by_label(rows)
    random = np.random.default_rng(0)
    by_user = [np.flatnonzero(rows.holders["user"] == user) for user in range(200)]
    gains = []
    for _ in range(400):
        drawn = np.concatenate([by_user[user] for user in random.integers(0, 200, 200)])
        labels, scores = rows.labels[drawn, VIEW], rows.scores[drawn]
        gains.append(auc(labels, scores[:, CLICK]) - auc(labels, scores[:, VIEW]))
    # 400 resamples know a standard error to 1 / sqrt(800) = 3.5%; four times that.
    assert matrix.gain_error[CLICK, VIEW] == pytest.approx(np.std(gains), rel=0.14)


def test_few_users_call_nobody_out() -> None:
    matrix = head_by_label(with_scores(log_of_choices(rows=2000, users=20), [CLICK, VIEW, LIKE]))
    assert isinstance(matrix, HeadByLabel)
    assert not matrix.better_heads()
