"""Logistic regression: a sum of one weight per id, and what scikit-learn makes of the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from examples import layout, model, optimizer, planted_rows, randomise, rich_batch, rich_layout, weighting
from sklearn.linear_model import LogisticRegression

from funrec.models.backbones.logistic import Logistic
from funrec.models.wide.linear import Linear
from funrec.schema import Task
from funrec.training.batches import BatchStream
from funrec.training.scoring import Scorer
from funrec.training.step import TrainingStep
from funrec.utils.errors import InputError
from funrec.utils.specs import check


def test_logits_are_sums_of_weights() -> None:
    batch = rich_batch()
    built = model(Logistic(scale=3.0, l2=0.0), rich_layout(), wide=Linear(l2=0.0))
    randomise(built)
    (table,) = (weight.numpy() for weight in built.embedding.weights_by_table)
    assert table.shape == (7 + 11 + 5 + 3, 2)  # one weight per id and task, and no linear term beside them
    start = {"user": 0, "item": 7, "seen": 7, "tags": 18, "tab": 23, "topics": 18}
    pool = {"seen": np.mean, "tags": np.sum, "topics": np.max}
    bias, coefficients = built.backbone.bias.numpy()[:, 0, 0], built.backbone.coefficients.numpy()[:, :, 0]
    for row in range(6):
        for task in range(2):
            total = batch["numeric"][row] @ coefficients[task]
            for name, column in (("user", 0), ("item", 1), ("tab", 2)):
                total += table[start[name] + batch["ids"][row, column], task]
            for name, values in batch["sequences"].items():
                ids = values[row][values[row] >= 0]
                total += pool[name](table[start[name] + ids, task]) if len(ids) else 0
            assert float(built(batch)[task, row]) == pytest.approx(3.0 * total + bias[task], rel=1e-4, abs=1e-5)


def test_weights_start_at_zero() -> None:
    built = model(Logistic(l2=0.0), rich_layout())
    assert not any(variable.numpy().any() for variable in built.trainable_variables)


@pytest.mark.slow
def test_with_a_ridge_penalty_it_finds_what_scikit_learn_finds_whatever_the_tasks_weights() -> None:
    users, items, penalty = 12, 9, 2.0
    effect = np.random.default_rng(0).normal(size=(2, 20))
    rows = planted_rows(
        lambda ids: [1 / (1 + np.exp(-effect[task, ids[:, 0]] + effect[task, ids[:, 1]])) for task in range(2)],
        rows=1500,
        users=users,
        items=items,
    )
    tasks = (Task("click", "click"), Task("like", "like", weight=4.0))
    built = model(Logistic(scale=1.0, l2=penalty), layout({"user": users, "item": items}), tasks)
    counts = {
        "user": np.bincount(rows.ids[:, 0], minlength=users),
        "item": np.bincount(rows.ids[:, 1], minlength=items),
    }
    built.embedding.count_lookups(counts)
    step = TrainingStep(built, weighting(tasks), optimizer(0.1), seed=0)
    step.run(BatchStream(rows, built.layout, batch_size=1500, seed=0).block(0, 150), tf.constant(0, tf.int64))
    one_hot = np.concatenate([np.eye(users)[rows.ids[:, 0]], np.eye(items)[rows.ids[:, 1]]], axis=1)
    for task, name in enumerate(("click", "like")):
        reference = LogisticRegression(C=1 / (2 * penalty), tol=1e-8, max_iter=1000)
        reference.fit(one_hot, rows.labels[:, task])
        np.testing.assert_allclose(Scorer(built).score(rows)[name], reference.decision_function(one_hot), atol=0.01)


def test_a_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.backbone\.scale should be a positive number\. Received: 0\.$"):
        check(Logistic, {"scale": 0}, "model.backbone")
