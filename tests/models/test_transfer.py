"""A model that takes another's weights over says what the other said, of the ids and heads that both know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import contracts
import numpy as np
import pytest
from examples import layout, randomise

from funrec.experiment.building import build_model
from funrec.models.model import MultiTaskModel
from funrec.models.transfer import transfer
from funrec.schema import Task

BEFORE = ("click", "like", "follow")
#: One head dropped, one new, the others in another order.
AFTER = ("follow", "share", "click")
#: No two models start alike.
SEEDS = count()


def build(backbone: str, heads: Sequence[str], users: int = 20, wide: str = "none", **changes: Any) -> MultiTaskModel:
    config = {**contracts.settings(backbone=backbone, funnel="independent", interaction="none", wide=wide), **changes}
    inputs = layout({"user": users, "item": 30}, numeric=["age"])
    model = build_model(config, [Task(name, name) for name in heads], inputs, "float32")
    model.initialise(0)
    randomise(model, scale=0.2, seed=next(SEEDS))
    return model


def scores(model: MultiTaskModel) -> dict[str, np.ndarray]:
    """Score rows of the ids that the smaller vocabulary has."""
    batch = contracts.batch_of(contracts.nested_rows(64))
    return {name: np.array(score) for name, score in model.scores(model(batch), batch).items()}


@pytest.mark.parametrize("backbone", ["mmoe", "ple", "stem", "single_task", "logistic", "cross_stitch"])
def test_with_the_same_heads_and_more_ids_nothing_changes_for_known_ids(backbone: str) -> None:
    before, after = build(backbone, BEFORE), build(backbone, BEFORE, users=27)
    new_rows = np.array(after.embedding.weights_by_table[0])[20:27]
    done = transfer(before, after)
    assert (done.in_part, done.anew) == ([], [])
    for name, score in scores(before).items():
        assert np.array_equal(score, scores(after)[name]), name
    assert np.array_equal(np.array(after.embedding.weights_by_table[0])[20:27], new_rows)


@pytest.mark.parametrize("backbone", ["mmoe", "shared_bottom", "single_task", "logistic"])
def test_heads_that_stay_keep_their_scores_where_others_come_and_go(backbone: str) -> None:
    before, after = build(backbone, BEFORE), build(backbone, AFTER)
    was = scores(after)["share"]
    done = transfer(before, after)
    now, expected = scores(after), scores(before)
    assert np.array_equal(now["click"], expected["click"]) and np.array_equal(now["follow"], expected["follow"])
    assert not np.array_equal(now["click"], expected["follow"])
    assert done.in_part and not done.anew
    if backbone in ("single_task", "logistic"):  # the new head shares nothing
        assert np.array_equal(now["share"], was)


def test_experts_of_a_head_that_stays_go_with_it() -> None:
    before, after = build("cgc", BEFORE), build("cgc", AFTER)
    transfer(before, after)
    theirs, ours = (np.array(model.backbone.levels[0].specific.kernels[0]) for model in (before, after))
    assert np.array_equal(ours[:2], theirs[4:]) and np.array_equal(ours[4:], theirs[:2])
    assert not np.isin(ours[2:4], theirs).any()


def test_experts_that_every_head_reads_go_with_the_head_that_they_belong_to() -> None:
    before, after = build("ple", BEFORE), build("ple", BEFORE[1:])
    transfer(before, after)
    theirs, ours = (np.array(model.backbone.levels[0].specific.kernels[0]) for model in (before, after))
    assert np.array_equal(ours, theirs[2:])


def test_one_head_more_than_one_keeps_the_shared_experts() -> None:
    before, after = build("mmoe", BEFORE[:1]), build("mmoe", BEFORE[:2])
    transfer(before, after)
    assert np.array_equal(scores(after)["click"], scores(before)["click"])


def test_another_backbone_keeps_the_embeddings_and_says_that_the_rest_is_new() -> None:
    before, after = build("mmoe", BEFORE), build("shared_bottom", BEFORE, tower_units=[5])
    done = transfer(before, after)
    assert done.whole == ["embedding of user", "embedding of item", "towers/bias"] and not done.in_part
    assert [name for name in done.anew if name.startswith("shared_bottom")]
    assert np.array_equal(before.embedding.weights_by_table[0], after.embedding.weights_by_table[0])


def test_a_wide_part_comes_or_goes_and_the_network_stays() -> None:
    before, after = build("mmoe", BEFORE, wide="linear"), build("mmoe", BEFORE)
    done = transfer(before, after)
    assert "embedding of user" in done.whole
    assert np.array_equal(np.array(before.embedding.weights_by_table[0])[:, :4], after.embedding.weights_by_table[0])
    done = transfer(build("mmoe", BEFORE), build("mmoe", BEFORE, wide="linear"))
    assert done.in_part == ["embedding of user", "embedding of item"] and done.anew == ["linear_coefficients"]
