"""What every backbone, under every funnel, must do: properties, checked on a small model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from examples import Rows, layout, optimizer, randomise, save_weights, weighting

from funrec.config.compose import compose
from funrec.experiment.building import build_model
from funrec.models.layers.experts import gates_replaced
from funrec.models.model import MultiTaskModel
from funrec.models.sharing import find_sharing
from funrec.schema import Task
from funrec.training.batches import BatchStream
from funrec.training.checkpoints import load_weights
from funrec.training.step import TrainingStep

CONF = Path(__file__).parents[1] / "conf"
TASKS = (Task("click", "click"), Task("like", "like", after="click"), Task("follow", "follow", after="click"))
RATES = {"click": 0.5, "like": 0.2, "follow": 0.1, "share": 0.1, "comment": 0.05}
INPUTS = layout({"user": 20, "item": 30}, numeric=["age"], domain="user")
COUNTS = {name: np.full(rows, 512 / rows) for name, rows in INPUTS.cardinalities.items()}


def names(group: str) -> list[str]:
    """Return the names of a configuration group's files."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml") if not file.stem.startswith("_"))


@cache
def settings(**parts: str) -> Mapping[str, Any]:
    return compose([f"model/{part}={name}" for part, name in parts.items()])["model"]


def build(
    backbone: str,
    funnel: str,
    interaction: str = "none",
    seed: int = 0,
    tasks: Sequence[Task] = TASKS,
    wide: str = "none",
) -> MultiTaskModel:
    """Return an initialised model of the parts, as their configuration files describe them."""
    config = settings(backbone=backbone, funnel=funnel, interaction=interaction, wide=wide)
    model = build_model(config, tasks, INPUTS, "float32")
    model.initialise(seed, {task.name: RATES[task.name] for task in tasks}, COUNTS)
    return model


def chain(count: int) -> tuple[Task, ...]:
    """Return so many tasks, each of which comes after the first."""
    names = list(RATES)[:count]
    return tuple(Task(name, name, after=names[0] if place else None) for place, name in enumerate(names))


def nested_rows(rows: int = 512, seed: int = 0) -> Rows:
    """Return rows whose labels nest, click before like and follow, likelier for some users and items."""
    draw = np.random.default_rng(seed)
    ids = np.stack([draw.integers(1, 20, rows), draw.integers(1, 30, rows)], axis=1).astype(np.int32)
    click = draw.random(rows) < np.where(ids[:, 0] > 10, 0.85, 0.15)
    like = click & (draw.random(rows) < np.where(ids[:, 1] > 15, 0.7, 0.1))
    follow = click & (draw.random(rows) < np.where(like, 0.5, 0.05))
    labels = np.stack([click, like, follow], axis=1).astype(np.float32)
    return Rows(ids, draw.normal(size=(rows, 1)).astype(np.float32), labels)


def batch_of(rows: Rows) -> dict[str, Any]:
    return {"ids": rows.ids, "numeric": rows.numeric, "sequences": {}}


def train(model: MultiTaskModel, rows: Rows, steps: int) -> np.ndarray:
    """Take so many steps and return the tasks' losses, `(steps, tasks)`."""
    stream = BatchStream(rows, model.layout, batch_size=128, seed=0)
    step = TrainingStep(model, weighting(TASKS), optimizer(0.005), seed=0)
    report = step.run(stream.block(0, steps), tf.constant(0, tf.int64))
    return report["losses"].numpy()


def check_training_lowers_the_loss(model: MultiTaskModel) -> None:
    losses = train(model, nested_rows(), steps=60)
    assert np.isfinite(losses).all()
    assert losses[-10:].mean() < 0.97 * losses[:10].mean()
    assert all(np.isfinite(variable.numpy()).all() for variable in model.trainable_variables)


def check_a_rebuilt_model_scores_bit_for_bit_alike(
    model: MultiTaskModel, rebuilt: MultiTaskModel, folder: Path
) -> None:
    batch = batch_of(nested_rows(rows=32))
    scores = {name: score.numpy() for name, score in model.scores(model(batch), batch).items()}
    assert any((scores[name] != score.numpy()).any() for name, score in rebuilt.scores(rebuilt(batch), batch).items())
    save_weights(model, folder)
    load_weights(rebuilt, folder)
    again = rebuilt.scores(rebuilt(batch), batch)
    assert list(again) == list(scores)
    for name, score in scores.items():
        np.testing.assert_array_equal(again[name].numpy(), score)


def check_gradients_are_finite(model: MultiTaskModel) -> None:
    """Whatever the logits are: near 0, and where probabilities are 1e-12 and 1 - 1e-12."""
    batch = {"labels": tf.constant(nested_rows(rows=8).labels)}
    towers = len(model.funnel.towers)
    for size in (0.0, 1.0, 27.6, 90.0):
        signs = np.sign(np.random.default_rng(0).normal(size=(towers, 8))).astype(np.float32)
        logits = tf.constant(size * signs)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = model.task_losses(logits, batch)
        assert np.isfinite(losses.numpy()).all()
        assert np.isfinite(tape.gradient(losses, logits).numpy()).all()


def check_every_tower_reads_the_shared_tensor(model: MultiTaskModel) -> None:
    randomise(model)
    backbone, x = model.backbone, model.read(model.embed(batch_of(nested_rows(rows=16))))
    towers = len(model.funnel.towers)
    shared, private = backbone.share(x)
    represented = backbone.specialise(shared, private)
    assert represented.shape[:2] == (towers, 16)
    np.testing.assert_allclose(represented, backbone(x), rtol=1e-5, atol=1e-5)
    if shared is None:
        return
    for tower in range(towers):
        with tf.GradientTape() as tape:
            tape.watch(shared)
            logit = model.head(backbone.specialise(shared, private), None)[tower]
        gradient = tape.gradient(logit, shared)
        assert gradient is not None and np.abs(gradient.numpy()).max() > 0, f"tower {tower} does not read it"


def check_what_is_found_to_be_shared(model: MultiTaskModel) -> None:
    """Variables, embeddings aside, of which some element is reached by two towers' logits at other weights and rows."""
    sharing = find_sharing(model.interaction, model.backbone, model.embedding.width + 1)
    randomise(model)
    embeddings = {id(table) for table in model.embedding.weights_by_table}
    variables = [variable for variable in model.trainable_variables if id(variable) not in embeddings]
    values = [variable.value for variable in variables]
    batch = batch_of(nested_rows(rows=256))
    reached = [np.zeros(variable.shape, int) for variable in variables]
    for tower in range(len(model.funnel.towers)):
        with tf.GradientTape() as tape:
            logit = model(batch)[tower]
        for count, gradient in zip(reached, tape.gradient(logit, values), strict=True):
            if gradient is not None:
                count += gradient.numpy() != 0
    shared = [variable.path for variable, count in zip(variables, reached, strict=True) if count.max(initial=0) > 1]
    found = {variable.path: slices for variable, slices in zip(sharing.variables, sharing.slices, strict=True)}
    assert list(found) == shared
    for variable, count in zip(variables, reached, strict=True):
        if variable.path in found:
            expected = (count > 1).reshape(len(count), -1).any(axis=1)
            np.testing.assert_array_equal(found[variable.path], expected, err_msg=variable.path)
    last = {variable.path for variable in sharing.last}
    assert last <= set(found)
    assert bool(last) == bool(found)
    assert {v.path for v in sharing.own}.isdisjoint(found)


def check_gates_are_shares(model: MultiTaskModel) -> None:
    """And a look inside reaches all of them (`gates_replaced`), and knows the experts' outputs."""
    randomise(model)
    x = model.read(model.embed(batch_of(nested_rows(rows=16))))
    readers = []
    with gates_replaced(lambda weights: readers.append(len(weights)) or weights):
        model.backbone(x)
    assert sum(readers) == sum(len(gates.readers) for gates in model.backbone.gates_of(x))
    for experts in model.backbone.experts_of(x):
        assert experts.outputs.shape[:2] == (len(experts.experts), 16)
        assert len(set(experts.experts)) == len(experts.experts)
    for gates in model.backbone.gates_of(x):
        assert gates.weights.shape == (len(gates.readers), 16, len(gates.experts))
        assert set(gates.readers) <= {*model.funnel.towers, "shared"}
        assert len(set(gates.experts)) == len(gates.experts)
        np.testing.assert_allclose(tf.reduce_sum(gates.weights, axis=-1), 1.0, rtol=1e-5)
        assert gates.weights.numpy().min() >= 0
