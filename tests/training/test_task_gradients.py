"""Per-task gradients in few passes are those of T full backward passes, and so is the step's gradient."""

from __future__ import annotations

from typing import Any, get_args

import contracts
import numpy as np
import pytest
import tensorflow as tf
from examples import Rows, layout, model, randomise

from funrec.models.backbones.logistic import Logistic
from funrec.models.backbones.mmoe import MMoE
from funrec.models.backbones.shared_bottom import SharedBottom
from funrec.models.backbones.single_task import SingleTask
from funrec.models.layers.randomness import random_sites
from funrec.models.model import MultiTaskModel
from funrec.models.penalty import penalty_weights
from funrec.models.wide.linear import Linear
from funrec.training.shards import count_shards
from funrec.training.task_gradients import Forward, SharedGradients, TaskGradients
from funrec.utils.errors import InputError
from funrec.weighting.gramian import Shared

BACKBONES = sorted(set(contracts.names("model/backbone")) - {"single_task", "logistic"})
FUNNELS = contracts.names("model/funnel")
#: Every backbone without a funnel that mixes towers, and under one of the funnels in turn; most of those turns wait for
#: `pytest -m exhaustive`.
TURNS = [(backbone, FUNNELS[place % len(FUNNELS)]) for place, backbone in enumerate(BACKBONES)]
PAIRS = [
    *(pytest.param(backbone, "independent") for backbone in BACKBONES),
    *(
        pytest.param(*pair, marks=[] if place % 4 == 0 else [pytest.mark.slow, pytest.mark.exhaustive])
        for place, pair in enumerate(TURNS)
        if pair[1] != "independent"
    ),
]


def batch_of(rows: Rows) -> dict[str, Any]:
    masks = np.random.default_rng(5).random(rows.labels.shape) < 0.8
    weights = tf.constant(masks, tf.float32)
    return contracts.batch_of(rows) | {"labels": tf.constant(rows.labels), "weights": weights}


BATCH = batch_of(contracts.nested_rows(rows=48))


def built(backbone: str, funnel: str) -> MultiTaskModel:
    made = contracts.build(backbone, funnel)
    randomise(made, scale=0.3)
    return made


def forward(shared: SharedGradients, batch: Any = None) -> Forward:
    """Run a batch in two shards, unless something takes the whole of it."""
    with random_sites(3, 7):
        return shared.run_forward(BATCH if batch is None else batch, {}, count_shards(shared.model, 2, 48))


def dense(gradient: Any) -> np.ndarray:
    return tf.convert_to_tensor(gradient).numpy()


def full_passes(shared: SharedGradients, done: Forward, sources: list[Any]) -> list[list[np.ndarray]]:
    """Return every task's gradients, each from a backward pass of its loss through the whole model."""
    gradients = []
    for task in range(len(shared.model.tasks)):
        one = tf.one_hot(task, len(shared.model.tasks))
        zero = tf.UnconnectedGradients.ZERO
        found = done.tape.gradient(done.losses, sources, output_gradients=one, unconnected_gradients=zero)
        gradients.append([dense(gradient) for gradient in found])
    return gradients


def of_shared_copies(shared: SharedGradients, table: np.ndarray) -> np.ndarray:
    embeddings = table[:, : table.shape[1] - shared.model.embedding.linear_units]
    copies = embeddings.reshape(len(table), shared.model.embedding.copies, -1)
    return copies[:, shared.sharing.copies]


def brute_force(shared: SharedGradients, source: str, done: Forward) -> np.ndarray:
    made = shared.model
    sharing = shared.sharing
    values = [variable.value for variable in sharing.variables]
    slices = {variable.path: which for variable, which in zip(sharing.variables, sharing.slices, strict=True)}
    last = [variable.value for variable in sharing.last]
    if source == "representation":
        gradients = full_passes(shared, done, [shard.shared for shard in done.shards])
    elif source == "last_shared_layer" and last:
        gradients = full_passes(shared, done, last)
        gradients = [[g[slices[v.path]] for g, v in zip(row, sharing.last, strict=True)] for row in gradients]
    else:
        tables = [table.value for table in made.embedding.weights_by_table]
        gradients = full_passes(shared, done, [*values, *tables])
        for row in gradients:
            row[: len(values)] = [g[which] for g, which in zip(row, sharing.slices, strict=False)]
            row[len(values) :] = [of_shared_copies(shared, table) for table in row[len(values) :]]
    rows = np.stack([np.concatenate([part.ravel() for part in parts]).astype(np.float64) for parts in gradients])
    return rows @ rows.T


def check_the_combined_gradient(shared: SharedGradients, done: Forward, pulled: TaskGradients) -> None:
    """Whether it is that of the weighted sum of losses."""
    made, weights = shared.model, tf.constant([0.5, 2.0, -1.0])
    found = shared.combine(done, pulled, weights, weights)
    targets, cotangents = [done.losses], [weights]
    if done.penalty is not None:
        targets.append(done.penalty)
        cotangents.append(penalty_weights(made, weights))
    if done.auxiliary is not None:
        targets.append(done.auxiliary)
        cotangents.append(tf.ones(()))
    variables = [variable.value for variable in made.trainable_variables]
    zero = tf.UnconnectedGradients.ZERO
    expected = done.tape.gradient(targets, variables, output_gradients=cotangents, unconnected_gradients=zero)
    for variable, ours, theirs in zip(made.trainable_variables, found, expected, strict=True):
        size = np.abs(dense(theirs)).max() + 1e-6
        np.testing.assert_allclose(dense(ours) / size, dense(theirs) / size, atol=2e-4, err_msg=variable.path)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "funnel"), PAIRS)
def test_the_gramian_and_the_combined_gradient_are_those_of_full_backward_passes(backbone: str, funnel: str) -> None:
    made = built(backbone, funnel)
    for source in get_args(Shared):
        shared = SharedGradients(made, source)
        done = forward(shared)
        pulled = shared.pull(done)
        expected = brute_force(shared, source, done)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert scale.min() > 0
        np.testing.assert_allclose(pulled.gramian.numpy() / scale, expected / scale, atol=2e-4, err_msg=source)
        check_the_combined_gradient(shared, done, pulled)


@pytest.mark.slow
@pytest.mark.parametrize("source", get_args(Shared))
@pytest.mark.parametrize("backbone", ["shared_bottom", "mmoe", "ple"])
def test_parameters_of_one_task_can_follow_its_own_loss(backbone: str, source: str) -> None:
    made = contracts.build(backbone, "independent", wide="linear")
    randomise(made, scale=0.3)
    assert made.embedding.linear_units == 3
    shared = SharedGradients(made, source)
    weights, ones = tf.constant([0.5, 2.0, 0.0]), tf.ones(3)
    done = forward(shared)
    found = shared.combine(done, shared.pull(done), weights, ones)
    weighted = shared.combine(done, shared.pull(done), weights, weights)
    unweighted = shared.combine(done, shared.pull(done), ones, ones)
    known = {id(variable) for variable in shared.sharing.variables}
    tables = {id(table) for table in made.embedding.weights_by_table}
    for variable, ours, one, other in zip(made.trainable_variables, found, weighted, unweighted, strict=True):
        ours, one, other = dense(ours), dense(one), dense(other)
        if id(variable) in tables:  # embeddings are shared; the linear term's weights are one tower's each
            linear = ours.shape[1] - made.embedding.linear_units
            np.testing.assert_allclose(ours[:, :linear], one[:, :linear], atol=1e-5)
            np.testing.assert_allclose(ours[:, linear:], other[:, linear:], atol=1e-5)
            assert np.abs(one - other).max() > 1e-3
        else:
            np.testing.assert_allclose(ours, one if id(variable) in known else other, atol=1e-5, err_msg=variable.path)


@pytest.mark.parametrize("backbone", [SharedBottom(units=(8,)), MMoE(num_experts=2, expert_units=(8,))])
def test_tasks_meet_at_the_representation(backbone: Any) -> None:
    """The towers' own inputs would give a diagonal Gramian, and PCGrad and its kin would silently do nothing."""
    inputs = layout({"user": 20, "item": 30}, numeric=["age"])
    made = model(backbone, inputs, tasks=contracts.TASKS)
    randomise(made)
    shared = SharedGradients(made, "representation")
    gramian = shared.pull(forward(shared)).gramian.numpy()
    norms = np.sqrt(np.diag(gramian))
    cosines = np.abs(gramian / np.outer(norms, norms))[~np.eye(3, dtype=bool)]
    assert cosines.mean() > 0.05


def test_normalised_towers_still_take_one_pass() -> None:
    inputs = layout({"user": 20, "item": 30}, numeric=["age"])
    backbone = MMoE(num_experts=2, expert_units=(8,), dropout=0.0, batch_normalization=True)
    made = model(backbone, inputs, tasks=contracts.TASKS, batch_normalization=True, wide=Linear(l2=0.0))
    randomise(made)
    for source in get_args(Shared):
        shared = SharedGradients(made, source)
        done = forward(shared)
        found, expected = shared.pull(done).gramian.numpy(), brute_force(shared, source, done)
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_a_task_without_valid_rows_has_no_gradient() -> None:
    made = built("mmoe", "independent")
    weights = BATCH["weights"] * tf.constant([1.0, 0.0, 1.0])
    for source in get_args(Shared):
        shared = SharedGradients(made, source)
        done = forward(shared, BATCH | {"weights": weights})
        pulled = shared.pull(done)
        assert (pulled.gramian.numpy()[1] == 0).all()
        gradients = shared.combine(done, pulled, tf.ones(3), tf.ones(3))
        assert all(np.isfinite(dense(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize("backbone", [SingleTask(units=(8,)), Logistic(l2=0.0)])
def test_a_model_that_shares_nothing_is_refused(backbone: Any) -> None:
    with pytest.raises(InputError, match="share nothing") as refused:
        SharedGradients(model(backbone, tasks=contracts.TASKS), "representation")
    assert "\n" not in str(refused.value)


def test_no_array_is_as_long_as_the_vocabulary() -> None:
    made = model(MMoE(num_experts=2, expert_units=(8,)), layout({"user": 100_003, "item": 30}), tasks=contracts.TASKS)
    shared = SharedGradients(made, "all_shared")
    batch = {name: value for name, value in BATCH.items() if name != "numeric"}

    @tf.function
    def pull() -> tuple[tf.Tensor, Any]:
        with random_sites(0, 0):
            done = shared.run_forward(batch, {})
        pulled = shared.pull(done)
        return pulled.gramian, shared.combine(done, pulled, tf.ones(3), tf.ones(3))

    operations = pull.get_concrete_function().graph.get_operations()
    shapes = [output.shape for operation in operations for output in operation.outputs]
    assert sum(shape.rank is not None and 100_033 in shape.as_list() for shape in shapes) == 0
