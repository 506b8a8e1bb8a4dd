"""What a trained model's parts do: wide part and network, gates, experts, and the gradients in what tasks share.

It shows when a model is nearly another one; `funrec.runs.diagnosis` says so in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from funrec.metrics import UndefinedMetric, auc
from funrec.models.layers.experts import gates_replaced
from funrec.models.layers.randomness import random_sites
from funrec.models.model import MultiTaskModel
from funrec.training.batches import BatchStream, Rows, take_features
from funrec.training.task_gradients import SharedGradients
from funrec.utils.errors import InputError

#: Rows that are looked at, spread evenly: for logits and gates, for the outputs of experts, for gradients.
BATCH_SIZE, BATCHES, EXPERT_BATCHES = 8192, 4, 1
GRADIENT_BATCH_SIZE, GRADIENT_BATCHES = 1024, 4


class _Pass(NamedTuple):
    """A batch on its way: its features, what the backbone reads, and what the wide part adds to the logits."""

    features: Mapping[str, Any]
    x: tf.Tensor
    wide: tf.Tensor | None


def look_inside(
    model: MultiTaskModel, valid: Rows, train: Rows, seed: int, offsets: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return the record's `inside`, see `funrec.runs.diagnosis`; nothing about the model changes.

    At most 32,768 rows of `valid` are looked at, and gradients are taken on batches of `train`, drawn by `seed`.
    """
    batch_size = min(BATCH_SIZE, len(valid))
    batches = min(BATCHES, len(valid) // batch_size)
    places = np.linspace(0, len(valid) - 1, batches * batch_size).astype(np.int64)
    passes = list(_passes(model, valid, np.split(places, batches)))
    return {
        "logits": _parts_of_logits(model, passes),
        "gate_costs": _costs_of_gates(model, passes, valid, places),
        "experts": _similarity_of_experts(model, passes[:EXPERT_BATCHES]),
        "shared_gradient_norms": _gradient_norms(model, train, seed, offsets),
    }


def _passes(model: MultiTaskModel, rows: Rows, places: Sequence[NDArray[np.int64]]) -> Iterator[_Pass]:
    for index in places:
        features = take_features(rows, model.layout, index)
        embedded = model.embed(features)
        yield _Pass(features, model.read(embedded), embedded.linear)


def _parts_of_logits(model: MultiTaskModel, passes: Sequence[_Pass]) -> list[dict[str, Any]]:
    """Return for every tower the variance of the wide part's and the network's logits, and their covariance."""
    towers = model.funnel.towers
    network = np.concatenate([model.head(model.backbone(one.x), None)[: len(towers)] for one in passes], axis=1)
    wide = np.zeros_like(network)
    if passes[0].wide is not None:
        wide = np.concatenate([one.wide for one in passes], axis=1)
    found = []
    for name, of_network, of_wide in zip(towers, network.astype(np.float64), wide.astype(np.float64), strict=True):
        covariances = np.cov(of_network, of_wide, ddof=0)
        found.append(
            {
                "tower": name,
                "network": float(covariances[0, 0]),
                "wide": float(covariances[1, 1]),
                "covariance": float(covariances[0, 1]),
            }
        )
    return found


def _costs_of_gates(
    model: MultiTaskModel, passes: Sequence[_Pass], rows: Rows, places: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Return what replacing all gates by their means costs every binary task in AUC; empty where there are none.

    `rows` is about the mean over rows, a gate by itself; `rows_and_readers` about the mean over readers too, where all
    readers of every gate share its experts.
    """
    seen: list[list[tf.Tensor]] = []

    def note(weights: tf.Tensor) -> tf.Tensor:
        seen[-1].append(tf.reduce_mean(tf.cast(weights, tf.float32), axis=1, keepdims=True))
        return weights

    plain = []
    with gates_replaced(note):
        for one in passes:
            seen.append([])
            plain.append(_scores(model, one))
    if not seen[0]:
        return {}
    means = {"rows": [tf.add_n(of_gate) / len(passes) for of_gate in zip(*seen, strict=True)]}
    if all(gates.num_shared == len(gates.experts) for gates in model.backbone.gates_of(passes[0].x)):
        means["rows_and_readers"] = [tf.reduce_mean(mean, axis=0, keepdims=True) for mean in means["rows"]]
    before = _aucs(model, plain, rows, places)
    costs = {}
    for name, values in means.items():
        replaced = []
        for one in passes:
            with gates_replaced(_constants(values)):
                replaced.append(_scores(model, one))
        after = _aucs(model, replaced, rows, places)
        costs[name] = {task: before[task] - after[task] for task in before}
    return costs


def _constants(values: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return what puts one value after the other in place of gates, for all rows."""
    waiting = iter(values)
    return lambda weights: tf.zeros_like(weights) + tf.cast(next(waiting), weights.dtype)


def _scores(model: MultiTaskModel, one: _Pass) -> dict[str, tf.Tensor]:
    return model.scores(model.head(model.backbone(one.x), one.wide), one.features)


def _aucs(
    model: MultiTaskModel, scores: Sequence[Mapping[str, tf.Tensor]], rows: Rows, places: NDArray[np.int64]
) -> dict[str, float]:
    """Return every binary task's AUC on the rows at `places`; tasks of one class there are left out."""
    found = {}
    for column, task in enumerate(model.tasks):
        if not task.is_binary:
            continue
        inside = np.ones(len(places), bool) if rows.masks is None else np.asarray(rows.masks[places, column])
        labels, of_task = rows.labels[places, column], np.concatenate([one[task.name] for one in scores])
        try:
            found[task.name] = auc(labels[inside], of_task[inside])
        except UndefinedMetric:
            continue
    return found


def _similarity_of_experts(model: MultiTaskModel, passes: Sequence[_Pass]) -> list[dict[str, Any]]:
    """Return how alike the outputs of experts are, by place in the backbone.

    Outputs are compared by linear CKA (Kornblith et al., ICML 2019, eq. 3): the correlation of two sets of units, 1
    where one is the other turned or permuted.
    """
    outputs: dict[tuple[str, tuple[str, ...]], list[NDArray[np.float64]]] = {}
    for one in passes:
        for experts in model.backbone.experts_of(one.x):
            by_row = tf.cast(tf.transpose(experts.outputs, (1, 0, 2)), tf.float64).numpy()
            outputs.setdefault((experts.name, experts.experts), []).append(by_row)
    return [
        {"place": place, "experts": list(names), "similarity": _linear_cka(np.concatenate(parts)).tolist()}
        for (place, names), parts in outputs.items()
    ]


def _linear_cka(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear CKA of every two experts, `(experts, experts)`, from outputs `(rows, experts, units)`."""
    rows, experts, units = outputs.shape
    flat = (outputs - outputs.mean(axis=0)).reshape(rows, experts * units)
    products = np.square(flat.T @ flat).reshape(experts, units, experts, units).sum(axis=(1, 3))
    norms = np.sqrt(np.diag(products))
    similarity: NDArray[np.float64] = products / np.maximum(np.outer(norms, norms), 1e-300)
    return similarity


def _gradient_norms(
    model: MultiTaskModel, train: Rows, seed: int, offsets: Mapping[str, float] | None
) -> dict[str, float]:
    """Return the norm of every task's gradient over all that tasks share, root mean square over a few batches.

    Embeddings are among what is shared. Empty where nothing is.
    """
    try:
        shared = SharedGradients(model, "all_shared")
    except InputError:
        return {}
    stream = BatchStream(train, model.layout, GRADIENT_BATCH_SIZE, seed, model.needs_groups)
    block = stream.block(0, GRADIENT_BATCHES)
    state = [variable.numpy() for variable in model.non_trainable_variables]
    squares = []
    for step in range(GRADIENT_BATCHES):
        batch = tf.nest.map_structure(lambda values, step=step: tf.constant(values[step]), block)
        with random_sites(seed, step):
            squares.append(np.diag(shared.pull(shared.run_forward(batch, offsets)).gramian))
    for variable, value in zip(model.non_trainable_variables, state, strict=True):  # those of batch normalisation
        variable.assign(value)
    norms = np.sqrt(np.mean(squares, axis=0))
    return {task.name: float(norm) for task, norm in zip(model.tasks, norms, strict=True)}
