"""AITM's own mathematics (Xi et al., KDD 2021, eq. 4-9 and 12)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from examples import structure
from reference import Array, assert_close, built, network, softmax

from funrec.models.backbones.aitm import AITM
from funrec.models.funnels.base import from_logit
from funrec.models.funnels.esmm import ESMM
from funrec.models.structure import Structure
from funrec.schema import Task
from funrec.utils.errors import InputError
from funrec.utils.specs import check

EMBEDDINGS = {"_target_": "funrec.models.backbones.embedding_only.EmbeddingOnly"}
MMOE = {"_target_": "funrec.models.backbones.mmoe.MMoE", "num_experts": 2, "expert_units": [6], "dropout": 0.0}
TASKS = (Task("click"), Task("like", after="click"), Task("follow", after="like"))


def transfer(backbone: AITM, own: list[Array]) -> list[Array]:
    """Return `z` of every tower, one after another."""
    h = backbone.attention.numpy().astype(np.float64)
    place = {tower: (s, i) for s, stage in enumerate(backbone.stages) for i, tower in enumerate(stage)}
    z: dict[int, Array] = {}
    for tower in sorted(range(len(own)), key=lambda tower: place.get(tower, (-1, 0))):
        if tower not in place:
            z[tower] = own[tower]
            continue
        stage, number = place[tower]
        received = network(backbone.informers[stage], number, z[backbone.parents[tower]])
        both = [own[tower], received]
        fit = np.stack([((u @ h[1]) * (u @ h[2])).sum(-1) / math.sqrt(u.shape[-1]) for u in both], axis=-1)
        weights = softmax(fit)
        z[tower] = sum(weights[:, [i]] * (u @ h[0]) for i, u in enumerate(both))
    return [z[tower] for tower in range(len(own))]


@pytest.mark.parametrize("inner", [EMBEDDINGS, MMOE], ids=["embeddings", "mmoe"])
@pytest.mark.parametrize("parents", [(None, 0), (None, 0, 1, 2, 3), (1, None, 1, 2, 0)], ids=["pair", "chain", "tree"])
def test_every_tower_attends_to_itself_and_to_the_one_before(inner: dict, parents: tuple[int | None, ...]) -> None:
    towers = len(parents)
    backbone = AITM(inner, (8, 4), dropout=0.0)
    backbone.configure(structure(towers, parents))
    backbone.configure = lambda *_: None  # `built` would configure it again, without the parents
    backbone, x = built(backbone, towers)
    h = backbone.inner(x).numpy()
    own = [network(backbone.networks, tower, h[tower]) for tower in range(towers)]
    assert_close(backbone(x), transfer(backbone, own))


def test_without_a_declared_order_each_task_comes_after_the_one_listed_before() -> None:
    backbone = AITM(EMBEDDINGS)
    backbone.configure(structure(4))
    assert backbone.parents == (None, 0, 1, 2)
    assert backbone.stages == [[1], [2], [3]]


def test_one_tower_has_nobody_to_hear_from() -> None:
    backbone, x = built(AITM(EMBEDDINGS, (8, 4), dropout=0.0), towers=1)
    assert_close(backbone(x), [network(backbone.networks, 0, x)])


def test_the_calibrator_counts_by_how_much_a_child_exceeds_its_parent() -> None:
    backbone = AITM(EMBEDDINGS, calibration=0.6)
    p = np.array([[0.5, 0.2], [0.7, 0.1], [0.3, 0.4]], np.float32)
    logits = np.log(p / (1 - p))
    probabilities = {task.name: from_logit(tf.constant(z)) for task, z in zip(TASKS, logits, strict=True)}
    expected = 0.6 * ((0.7 - 0.5) + (0.4 - 0.1)) / 2  # the first row's like, the second row's follow; a mean over rows
    assert float(backbone.auxiliary_loss(probabilities, TASKS, None)) == pytest.approx(expected, rel=1e-5)
    assert AITM(EMBEDDINGS, calibration=0).auxiliary_loss(probabilities, TASKS, None) is None
    assert backbone.auxiliary_loss(probabilities, [Task(task.name) for task in TASKS], None) is None


def test_a_funnel_that_nests_leaves_the_calibrator_nothing_to_do() -> None:
    funnel = ESMM()
    funnel.configure(Structure(TASKS))
    logits = tf.random.stateless_normal((3, 50), seed=(0, 0), stddev=3.0)
    assert float(AITM(EMBEDDINGS).auxiliary_loss(funnel.combine(logits), TASKS, None)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": {"_target_": "funrec.models.backbones.logistic.Logistic"}}, r"inner should be .*Received: Logistic"),
        ({"inner": EMBEDDINGS, "calibration": -1}, r"calibration should be .*Received: -1"),
        ({"inner": EMBEDDINGS, "units": []}, r"units should be .*Received: \[\]"),
        ({"inner": {**MMOE, "num_expert": 2}}, r"inner\.num_expert: no such key\. Did you mean num_experts\?"),
    ],
)
def test_what_it_cannot_wrap_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"^model\.backbone\.{message}"):
        AITM(**check(AITM, options, "model.backbone"))
