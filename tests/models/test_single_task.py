"""Single task: nothing is shared, so no task can influence another at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from examples import TASKS, Rows, layout, model, optimizer, planted_rows, randomise, rich_batch, rich_layout, weighting

from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.single_task import SingleTask
from funrec.models.wide.linear import Linear
from funrec.training.scoring import Scorer
from funrec.training.trainer import Trainer


def test_logits_equal_those_of_a_network_per_task_with_embeddings_of_its_own() -> None:
    batch = rich_batch()
    built = model(SingleTask((8, 4), dropout=0.0), rich_layout(), wide=Linear(l2=0.0))
    randomise(built)
    x, linear = built.embed(batch).x.numpy(), built.embed(batch).linear.numpy()
    towers = built.towers
    assert x.shape == (2, 6, built.embedding.width + 2)
    for task in range(2):
        np.testing.assert_allclose(x[task][:, -2:], batch["numeric"], rtol=1e-6)
        h = x[task]
        for kernel, bias in zip(built.backbone.networks.kernels, built.backbone.networks.biases, strict=True):
            h = np.maximum(h @ kernel.numpy()[task] + bias.numpy()[task], 0)
        h = np.maximum(h @ towers.hidden.kernels[0].numpy()[task] + towers.hidden.biases[0].numpy()[task], 0)
        logit = (h @ towers.kernel.numpy()[task] + towers.bias.numpy()[task])[:, 0] + linear[task]
        np.testing.assert_allclose(built(batch)[task], logit, rtol=1e-4, atol=1e-4)


def test_a_single_task_needs_no_copies() -> None:
    built = model(SingleTask((8,)), rich_layout(), tasks=TASKS[:1])
    assert built(rich_batch()).shape == (1, 6)


def train(rows: Rows, backbone: SingleTask | MMoE, folder: Path) -> dict[str, np.ndarray]:
    built = model(backbone, tower_dropout=0.2, wide=Linear(l2=0.0))
    trainer = Trainer(epochs=2, batch_size=100, monitor=None, average_steps=5, average_snapshots=2)
    trainer.fit(built, rows, weighting(), optimizer(), lambda: {}, folder, seed=3)
    return Scorer(built).score(rows)


@pytest.mark.slow
@pytest.mark.parametrize("normalise", [False, True])
def test_shuffling_one_tasks_labels_changes_no_bit_of_the_others_scores(normalise: bool, tmp_path: Path) -> None:
    rows = planted_rows(lambda ids: (0.2 + 0.6 * (ids[:, 0] % 2), 0.2 + 0.6 * (ids[:, 1] % 2)), rows=500)
    before = train(rows, SingleTask((8,), dropout=0.2, batch_normalization=normalise), tmp_path / "before")
    rows.labels[:, 1] = np.random.default_rng(9).permutation(rows.labels[:, 1])
    after = train(rows, SingleTask((8,), dropout=0.2, batch_normalization=normalise), tmp_path / "after")
    np.testing.assert_array_equal(after["click"], before["click"])
    assert (after["like"] != before["like"]).all()


@pytest.mark.slow
def test_the_check_sees_the_influence_that_sharing_has(tmp_path: Path) -> None:
    rows = planted_rows(lambda ids: (0.2 + 0.6 * (ids[:, 0] % 2), 0.2 + 0.6 * (ids[:, 1] % 2)), rows=500)
    before = train(rows, MMoE(2, (8,)), tmp_path / "before")
    rows.labels[:, 1] = np.random.default_rng(9).permutation(rows.labels[:, 1])
    after = train(rows, MMoE(2, (8,)), tmp_path / "after")
    assert (after["click"] != before["click"]).any()


def test_the_tables_of_two_tasks_start_apart() -> None:
    x = (
        model(SingleTask((8,)), layout({"user": 20, "item": 30}))
        .embed({"ids": np.ones((1, 2), np.int32), "sequences": {}})
        .x.numpy()
    )
    assert (x[0] != x[1]).all()
