"""Training: which epoch is kept, what stops it, and that every head learns its own labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from examples import TASKS, Rows, layout, model, optimizer, planted_rows, weighting
from numpy.typing import NDArray

from funrec.metrics import auc
from funrec.models.backbones.base import Backbone
from funrec.models.backbones.logistic import Logistic
from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.shared_bottom import SharedBottom
from funrec.models.backbones.single_task import SingleTask
from funrec.models.model import MultiTaskModel
from funrec.models.wide.linear import Linear
from funrec.schema import Task
from funrec.training.batches import BatchStream
from funrec.training.scoring import Scorer
from funrec.training.state import TrainingState
from funrec.training.step import TrainingStep
from funrec.training.trainer import Trainer, TrainingDiverged
from funrec.utils.errors import InputError

pytestmark = pytest.mark.slow

LAYOUT = layout({"user": 20, "item": 30})


def opposite(ids: NDArray[np.int32]) -> list[NDArray[np.float64]]:
    """Even users click and odd users like: what says yes to one task says no to the other."""
    even = ids[:, 0] % 2 == 0
    return [np.where(even, 0.9, 0.1), np.where(even, 0.1, 0.9)]


def fit(
    built: MultiTaskModel,
    rows: Rows,
    folder: Path,
    scores: Iterator[float] | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    offsets: Mapping[str, float] | None = None,
    learning_rate: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> TrainingState:
    options = {"epochs": 3, "batch_size": 100, "monitor": "auc_macro" if scores else None, **options}
    if scores is not None:
        validate = lambda: {"auc_macro": next(scores)}  # noqa: E731 - what a validation would say
    trainer = Trainer(**options)
    return trainer.fit(
        built, rows, weighting(built.tasks), optimizer(learning_rate), validate or dict, folder, seed, offsets
    )


def weights_of(built: MultiTaskModel) -> list[NDArray[np.float32]]:
    return [variable.numpy().copy() for variable in built.weights]


def assert_same(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return planted_rows(opposite, rows=600)


def recorded(built: MultiTaskModel, scores: list[float], seen: list[Any]) -> Callable[[], Mapping[str, float]]:
    """Return a validation that says `scores`, one after another, and keeps the weights it saw."""

    def validate() -> Mapping[str, float]:
        seen.append(weights_of(built))
        return {"auc_macro": scores[len(seen) - 1], "auc_click": 0.5}

    return validate


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [
        (None, [0.6, 0.8, 0.7, 0.75], 2),
        ("min", [0.6, 0.8, 0.5, 0.55], 3),
        ("max", [0.7, 0.7, 0.7, 0.7], 1),
    ],
)
def test_the_weights_end_as_they_were_at_the_best_epoch(
    mode: str | None, scores: list[float], best: int, rows: Rows, tmp_path: Path
) -> None:
    built, seen = model(), []
    result = fit(
        built,
        rows,
        tmp_path,
        validate=recorded(built, scores, seen),
        epochs=4,
        monitor="auc_macro",
        monitor_mode=mode,
        patience=None,
    )
    assert result.best_epoch == best
    assert_same(weights_of(built), seen[best - 1])
    assert (seen[0][0] != seen[1][0]).any()
    assert [row["auc_macro"] for row in result.history] == scores


def test_training_stops_when_patience_is_at_its_end(rows: Rows, tmp_path: Path) -> None:
    result = fit(model(), rows, tmp_path, iter([0.7, 0.6, 0.65, 0.9]), epochs=4, patience=2)
    assert len(result.history) == 3
    assert result.best_epoch == 1


def test_without_a_monitor_the_last_epoch_is_kept(rows: Rows, tmp_path: Path) -> None:
    result = fit(model(), rows, tmp_path)
    assert result.best_epoch == 3


def test_an_unknown_monitor_is_refused_with_the_nearest_name(rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trainer\.monitor .* auc_marco\. Did you mean auc_macro\?"):
        fit(model(), rows, tmp_path, iter([0.5]), monitor="auc_marco")


def test_a_monitor_that_is_never_a_number_is_refused(rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="auc_macro was never a number"):
        fit(model(), rows, tmp_path, iter([math.nan] * 3))


def test_history_holds_what_each_epoch_did(rows: Rows, tmp_path: Path) -> None:
    result = fit(model(), rows, tmp_path, iter([0.6, 0.7, 0.8]))
    for epoch, row in enumerate(result.history, start=1):
        assert row["epoch"] == epoch
        assert row["steps"] == 6
        assert row["weight_click"] == row["weight_like"] == 1
        assert row["seconds"] > 0
        assert row["rows_per_second"] == pytest.approx(600 / row["seconds"])
    losses = [row["loss_click"] for row in result.history]
    assert losses == sorted(losses, reverse=True)
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in result.history))
    assert result.rows_per_second == pytest.approx(1800 / result.seconds)


def test_blocks_of_any_length_train_alike(rows: Rows, tmp_path: Path) -> None:
    ends = []
    for steps in (1, 4, 1000):
        built = model(MMoE(2, (8,), dropout=0.3), tower_dropout=0.3, wide=Linear(l2=0.0))
        fit(built, rows, tmp_path / str(steps), epochs=2, batch_size=70, steps_per_call=steps)
        ends.append(weights_of(built))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(rows: Rows, tmp_path: Path) -> None:
    ends = []
    for place, seed in enumerate((5, 5, 6)):
        built = model(MMoE(2, (8,), dropout=0.3), seed=1)
        fit(built, rows, tmp_path / str(place), epochs=1, seed=seed)
        ends.append(weights_of(built))
    assert_same(ends[0], ends[1])
    assert (ends[0][0] != ends[2][0]).any()


# What diverges


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_label_that_is_no_number_names_task_step_and_last_good_epoch(epoch: int, tmp_path: Path) -> None:
    rows = planted_rows(opposite, rows=600)

    def poison() -> Mapping[str, float]:
        rows.labels[:, 1] = np.nan
        return {"auc_macro": 0.5}

    if epoch == 0:
        poison()
    expected = ["at step 1", "No epoch was finished before", "at step 7", "The last good epoch is 1"][2 * epoch :][:2]
    with pytest.raises(TrainingDiverged, match=r"The loss of like should stay finite\. It turned nan") as diverged:
        fit(model(), rows, tmp_path, validate=poison, monitor="auc_macro")
    assert all(part in str(diverged.value) for part in expected)
    assert "\n" not in str(diverged.value)


def test_a_learning_rate_too_high_is_named(rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"should stay finite.*Lower optimizer\.learning_rate"):
        fit(model(), rows, tmp_path, learning_rate=1e30)


def test_a_model_that_diverges_in_the_last_step_of_an_epoch_is_named_too(rows: Rows, tmp_path: Path) -> None:
    built = model()
    scorer = Scorer(built)
    with pytest.raises(TrainingDiverged, match=r"score of (click|like) should stay finite.*nan at step 1\..*No epoch"):
        fit(built, rows, tmp_path, batch_size=600, learning_rate=1e38, validate=lambda: scorer.score(rows))


# Whose labels a head learns


@pytest.mark.parametrize(
    ("backbone", "order"),
    [(Logistic, (0, 1)), (MMoE, (1, 0)), (SharedBottom, (0, 1)), (SingleTask, (1, 0))],
)
def test_every_head_learns_its_own_labels_and_not_the_others(
    backbone: type[Backbone], order: tuple[int, int], rows: Rows, tmp_path: Path
) -> None:
    tasks = tuple(TASKS[place] for place in order)
    shuffled = Rows(rows.ids, rows.numeric, rows.labels[:, order])
    built = model(backbone(**({"l2": 0.0} if backbone is Logistic else {})), tasks=tasks)
    fit(built, shuffled, tmp_path, epochs=8, learning_rate=0.02)
    scores = Scorer(built).score(shuffled)
    truth = dict(zip(("click", "like"), rows.labels.T, strict=True))
    for own, other in (("click", "like"), ("like", "click")):
        assert auc(truth[own], scores[own]) > 0.85  # the planted probabilities reach 0.9
        assert auc(truth[other], scores[own]) < 0.25


def test_a_regression_head_beside_a_binary_one_finds_the_means(tmp_path: Path) -> None:
    rows = planted_rows(opposite, rows=2000)
    rows.labels[:, 1] = 10 + 3 * (rows.ids[:, 1] % 2) + np.random.default_rng(0).normal(scale=0.1, size=2000)
    tasks = (TASKS[0], Task("seconds", "seconds", kind="regression"))
    built = model(SharedBottom((16,), dropout=0.0), tasks=tasks, rates={"click": 0.5, "seconds": 11.5})
    fit(built, rows, tmp_path, epochs=12, learning_rate=0.02)
    scores = Scorer(built).score(rows)
    assert np.sqrt(np.mean((scores["seconds"] - rows.labels[:, 1]) ** 2)) < 0.4  # 1.5 without the feature
    assert auc(rows.labels[:, 0], scores["click"]) > 0.85


def test_a_masked_task_learns_from_its_sample_space_alone(tmp_path: Path) -> None:
    rows = planted_rows(opposite, rows=1500)
    inside = rows.ids[:, 1] % 2 == 0
    masks = np.stack([np.ones(1500, bool), inside], axis=1)
    lied = rows.labels.copy()
    lied[~inside, 1] = 1 - lied[~inside, 1]
    ends = []
    for place, labels in enumerate((rows.labels, lied)):
        built = model()
        fit(built, Rows(rows.ids, rows.numeric, labels, masks), tmp_path / str(place), epochs=4, learning_rate=0.02)
        ends.append(weights_of(built))
    assert_same(*ends)  # what the labels say outside of it does not matter
    assert auc(rows.labels[inside, 1], Scorer(built).score(rows)["like"][inside]) > 0.85


def test_row_weights_shift_what_is_learned(tmp_path: Path) -> None:
    rows = planted_rows(lambda ids: (0 * ids[:, 0] + 0.5,) * 2, rows=3000)
    rows.weights = np.where(rows.labels == 1, 3.0, 1.0).astype(np.float32)
    built = model(Logistic(scale=1.0, l2=0.0), rates={"click": 0.5, "like": 0.5})
    fit(built, rows, tmp_path, epochs=6, learning_rate=0.02)
    for task in ("click", "like"):
        score = Scorer(built).score(rows)[task]
        assert score.mean() == pytest.approx(math.log(3), abs=0.25)


# What averages


def test_an_epoch_is_validated_at_the_mean_of_its_snapshots_and_training_goes_on_from_the_raw_weights(
    rows: Rows, tmp_path: Path
) -> None:
    raw, after = model(), []  # the weights after every step of a training without averages
    stream, step = BatchStream(rows, LAYOUT, 100, seed=0), TrainingStep(raw, weighting(), optimizer(), seed=0)
    for place in range(12):
        step.run(stream.block(place, 1), tf.constant(place, tf.int64))
        after.append(weights_of(raw))
    built, seen = model(), []
    fit(
        built,
        rows,
        tmp_path,
        validate=recorded(built, [0.5, 0.6], seen),
        epochs=2,
        average_steps=4,
        average_snapshots=2,
    )
    for epoch, last in enumerate((6, 12)):
        for found, first, second in zip(seen[epoch], after[last - 3], after[last - 1], strict=True):
            np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-5, atol=1e-7)
    assert_same(weights_of(built), seen[1])
