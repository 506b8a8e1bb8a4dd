"""Trains the parts that a configuration names on prepared data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from funrec.data.arrays import PreparedData, save_inputs
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.checks import check_nesting
from funrec.experiment.building import (
    Parts,
    build_loop,
    build_model_parts,
    build_parts,
    forget_former_models,
    load_model,
    part_names,
)
from funrec.experiment.evaluation import measure_validation, validation_metrics
from funrec.experiment.inside import look_inside
from funrec.experiment.run import Attempt, Trained
from funrec.experiment.start import Start, describe_start
from funrec.metrics import build_metrics
from funrec.models.fit import check_delays, check_fit
from funrec.models.layers.pooling import build_pooling
from funrec.models.penalty import has_penalty
from funrec.models.structure import Structure, check_groups
from funrec.models.transfer import transfer
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.provenance import origin
from funrec.schema import InputLayout, SequenceFeature, Task, event_columns
from funrec.training.checkpoints import CheckpointFile
from funrec.training.gates import GateMeter, gate_columns
from funrec.training.scoring import Scorer
from funrec.training.state import TrainingState
from funrec.training.trainer import check_group
from funrec.training.workers import join_workers

#: Training rows that losses learn their means and quantiles from.
SAMPLED_ROWS = 2_000_000


def train(
    config: Mapping[str, Any], dataset: Dataset, data: PreparedData, attempt: Attempt, start: Start | None = None
) -> Trained:
    """Build and train what `config` names, from its checkpoint or `start` if there is one; write weights and history.

    Raises:
        InputError: If a part is not what it should be, or training diverges.
        KeyboardInterrupt: If it was interrupted.
    """
    folder, rows, valid = attempt.folder, data.splits["train"], data.splits["valid"]
    parts, fields = _build_initialised(config, dataset, data, start)
    names = part_names(parts.model)
    metrics, uncalibrated = build_metrics(config["metrics"]), parts.model.uncalibrated
    scorer = Scorer(parts.model, parts.trainer.eval_batch_size, parts.trainer.shards)
    gates = GateMeter(parts.model)
    attempt.clock.lap("build")

    with attempt.interruption.deferred():
        result = _fit(
            parts,
            config,
            data,
            folder,
            validate=lambda: (
                measure_validation(data.tasks, valid, scorer.score(valid), metrics, uncalibrated)
                | gate_columns(gates.measure(valid))
            ),
            live=attempt.live,
            on_epoch=attempt.on_epoch,
            interruption=attempt.interruption,
        )
    record.write_history(folder, result.history)
    save_inputs(data, folder / "model")
    attempt.clock.lap("train")
    fields |= {
        "rows_per_second": result.rows_per_second,
        "best_epoch": result.best_epoch,
        "weighting_fallbacks": result.weighting_fallbacks,
        "resumed_at": result.resumed_at,
        "selected_on": "valid" if parts.trainer.monitor and len(result.history) > 1 else config.get("tuned_on"),
        "gates": gates.measure(valid),
        "uncalibrated": uncalibrated,
        "inside": look_inside(parts.model, valid, rows, config["seed"], data.logit_offsets),
    }
    attempt.clock.lap("inspect")
    return Trained(scorer.score, names, fields)


def assist(
    config: Mapping[str, Any], dataset: Dataset, data: PreparedData, folder: Path, start: Start | None = None
) -> None:
    """Build and train it as a worker that is not the first: it computes its part of every batch and writes nothing."""
    parts, _ = _build_initialised(config, dataset, data, start)
    _fit(parts, config, data, folder, validate=dict)


def _build_initialised(
    config: Mapping[str, Any], dataset: Dataset, data: PreparedData, start: Start | None
) -> tuple[Parts, dict[str, Any]]:
    """Return what a run trains, with the weights it begins with, and what its record says of them."""
    forget_former_models()
    rows, parts = data.splits["train"], build_parts(config, data.tasks, data.layout)
    if parts.model.funnel.needs_nesting:
        check_nesting(dataset, data, part_names(parts.model)["funnel"])
    parts.model.initialise(
        config["seed"],
        base_rates(rows, data.tasks, data.logit_offsets),
        count_lookups(rows, parts.model.layout) if has_penalty(parts.model) else None,
    )
    parts.model.fit_losses(sample_labels(rows, data.tasks))
    if start is None:
        return parts, {}
    taken = transfer(load_model(start.record["config"], start.known.inputs, start.run), parts.model)
    return parts, {"started_from": describe_start(start, dataset, data, taken)}


def _fit(parts: Parts, config: Mapping[str, Any], data: PreparedData, folder: Path, **watching: Any) -> TrainingState:
    """Train with the other workers, if there are any, once all have the same code, data and configuration."""
    made_from, workers = origin(config, data.fingerprint), join_workers(config["trainer"].get("workers", 1))
    workers.check_agreement({name: json.dumps(value, sort_keys=True) for name, value in made_from.items()})
    return parts.trainer.fit(
        parts.model,
        data.splits["train"],
        parts.weighting,
        parts.optimizer,
        folder=folder / "model",
        seed=config["seed"],
        offsets=data.logit_offsets,
        checkpoint=CheckpointFile(folder / run_folder.CHECKPOINT, made_from),
        workers=workers,
        **watching,
    )


def check_parts(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Build everything that needs no data, so that a mistake is reported before a long preparation."""
    tasks, metrics = dataset.tasks, build_metrics(config["metrics"])
    trainer, _, _ = build_loop(config, tasks)
    trainer.check_monitor(validation_metrics(tasks, dataset.group is not None, metrics))
    parts = build_model_parts(config["model"], tasks, trainer.precision)
    known = Structure(tuple(tasks), check_groups(config["model"].get("groups"), tasks), domain=dataset.domain)
    ids = [f.name for f in dataset.features if f.has_embedding and not isinstance(f, SequenceFeature)]
    for columns in event_columns(dataset.features):
        build_pooling(columns[0], ids)
    parts["funnel"].configure(known)
    towers = {"towers": parts["funnel"].towers, "parents": parts["funnel"].tower_parents()}
    parts["backbone"].configure(replace(known, **towers))
    check_fit(parts["backbone"], parts["funnel"], parts["interaction"], parts["losses"])
    check_delays(tasks, parts["losses"], parts["funnel"])
    is_compared = any(loss.needs_groups for loss in parts["losses"])
    check_group(dataset.group is not None, is_compared, trainer.batch_by == "group")


def base_rates(rows: Any, tasks: Sequence[Task], offsets: Mapping[str, float]) -> dict[str, float]:
    """Return every task's positive rate (mean label, for regression) over its sample space in the training split.

    `offsets` holds `log r` of a task whose negatives were downsampled at rate r; its rate is corrected for that.
    """
    sums, counts = np.zeros(len(tasks)), np.zeros(len(tasks))
    for start in range(0, len(rows), 1 << 20):
        part = slice(start, start + (1 << 20))
        labels = rows.labels[part]
        weights = np.ones_like(labels) if rows.weights is None else np.asarray(rows.weights[part])
        if rows.masks is not None:
            weights = weights * rows.masks[part]
        sums += (labels * weights).sum(0, dtype=np.float64)
        counts += weights.sum(0, dtype=np.float64)
    rates = {}
    for task, total, count in zip(tasks, sums, counts, strict=True):
        kept = np.exp(offsets.get(task.name, 0.0))
        negatives = (count - total) / kept if task.is_binary else count - total
        rates[task.name] = float(total / max(total + negatives, 1e-12))
    return rates


def sample_labels(rows: Any, tasks: Sequence[Task]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return every task's labels and the ids of their rows, over its sample space in (at most) two million rows."""
    step = -(-len(rows) // SAMPLED_ROWS)
    labels, ids = np.asarray(rows.labels[::step]), np.asarray(rows.ids[::step])
    masks = np.ones(labels.shape, bool) if rows.masks is None else np.asarray(rows.masks[::step])
    return [(labels[masks[:, column], column], ids[masks[:, column]]) for column in range(len(tasks))]


def count_lookups(rows: Any, layout: InputLayout) -> dict[str, np.ndarray]:
    """Return how often the training split looks every embedding row up, by the feature that owns it."""
    counts = {name: np.zeros(rows_of, np.int64) for name, rows_of in layout.cardinalities.items()}
    owner = {feature.name: feature.share_with or feature.name for feature in layout.features}
    for start in range(0, len(rows), 1 << 20):
        ids = rows.ids[start : start + (1 << 20)]
        for column, name in enumerate(layout.id_features):
            counts[owner[name]] += np.bincount(ids[:, column], minlength=len(counts[owner[name]]))
    for feature in layout.sequence_features:
        values = rows.sequences[feature.name].values
        counts[owner[feature.name]] += np.bincount(values, minlength=len(counts[owner[feature.name]]))
    return counts
