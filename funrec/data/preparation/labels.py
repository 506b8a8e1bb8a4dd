"""Labels, masks and weights of one batch of staged rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.arrays import SplitArrays
from funrec.data.preparation.delays import Delays
from funrec.data.preparation.splitting import Downsample
from funrec.data.preparation.staging import ROW, WEIGHT
from funrec.schema import Task
from funrec.utils.errors import InputError

SHOULD_BE = {"binary": "0 or 1", "regression": "a finite number", "duration": "a finite number of at least 0"}


def add_labels(
    batch: SplitArrays,
    staged: pl.DataFrame,
    tasks: Sequence[Task],
    downsample: Downsample | None,
    delays: Delays | None = None,
) -> SplitArrays:
    """Check one batch's labels, masks and (of training rows) weights, and return the batch with them.

    With `dataset.downsample = {task: s, rate: r}` training keeps a share `r` of the rows where the label of `s` is 0.
    Two corrections make up for it. (1) The odds of `s` among the kept rows are `1/r` times the true odds, so a head
    that fits the kept rows has to be moved by `log(r)`: `logit_true = logit_kept + log(r)`, which is
    `PreparedData.logit_offsets[s]`; its weights are left alone. (2) For every other task a kept row with label 0 of
    `s` stands for `1/r` rows, so it weighs `1/r` in that task's loss: the weighted loss is then an unbiased estimate
    of the loss over all rows, and its logit needs no offset. Rows outside the sample space of `s` are all kept and
    weigh 1.

    With `delays`, training labels are those that are seen by the end of training.

    Raises:
        InputError: If a label is missing or no valid value where it counts, or a weight is negative or none.
    """
    columns = [_label(task, staged) for task in tasks]
    labels = np.stack([label for label, _ in columns], axis=1)
    observed = None
    if delays is not None and batch.name == "train":
        observed = np.ones(labels.shape, dtype=np.float32)
        for place, task in enumerate(tasks):
            if task.observed_after is not None:
                labels[:, place], observed[:, place] = delays.hide(staged, task, labels[:, place])
    masks = np.stack([mask for _, mask in columns], axis=1) if any(task.where is not None for task in tasks) else None
    weights = None
    if batch.name == "train" and (WEIGHT in staged.columns or downsample is not None):
        weights = np.ones(labels.shape, dtype=np.float32)
        if WEIGHT in staged.columns:
            weights *= _row_weights(staged)[:, None]
        if downsample is not None:
            sampled = [task.name for task in tasks].index(downsample.task)
            stands_for_more = labels[:, sampled] == 0
            if masks is not None:
                stands_for_more &= masks[:, sampled]
            others = np.arange(len(tasks)) != sampled
            weights[np.ix_(stands_for_more, others)] /= np.float32(downsample.rate)
    return replace(batch, labels=labels, masks=masks, weights=weights, observed=observed)


def _label(task: Task, batch: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    label = batch[f"label/{task.name}"].fill_null(np.nan).to_numpy()
    where = f"where/{task.name}"
    mask = batch[where].to_numpy() if where in batch.columns else np.ones(len(label), dtype=bool)
    is_valid = ((label == 0) | (label == 1)) if task.is_binary else np.isfinite(label)
    if task.kind == "duration":
        is_valid &= label >= 0
    bad = mask & ~is_valid
    if bad.any():
        place = int(np.argmax(bad))
        value = label[place]
        received = "a null" if np.isnan(value) else f"{value:g}"
        should = SHOULD_BE[task.kind]
        mend = ' Write a condition, such as "rating >= 4", or set kind=regression.' if task.is_binary else ""
        if np.isnan(value):
            mend = f" Mend the column, or set dataset.tasks.{task.name}.where to the rows that have a label."
        raise InputError(
            f"dataset.tasks.{task.name}.label should be {should} in every row of its sample space. "
            f"Received: {received}, in row {batch[ROW][place]:,} (from 0).{mend}"
        )
    if task.most_lengths is not None:
        _check_lengths(task, label, batch[f"length/{task.name}"].fill_null(0).to_numpy(), mask, batch)
    return np.where(is_valid, label, 0).astype(np.float32), mask


def _check_lengths(
    task: Task, label: NDArray[np.float32], length: NDArray[np.float32], mask: NDArray[np.bool_], batch: pl.DataFrame
) -> None:
    """Refuse durations that are too many times their length; a length of 0 or null is unknown."""
    assert task.most_lengths is not None
    bad = mask & (length > 0) & (label > task.most_lengths * length)
    if bad.any():
        place = int(np.argmax(bad))
        where = f"dataset.tasks.{task.name}"
        raise InputError(
            f"{where}.label should be at most {task.most_lengths:g} times its length (most_lengths). Received: "
            f"{label[place]:g} for a length of {length[place]:g}, in row {batch[ROW][place]:,} (from 0). Raise "
            f'{where}.most_lengths, or cap the label, such as "LEAST({task.label}, {task.length})".'
        )


def _row_weights(batch: pl.DataFrame) -> NDArray[np.float32]:
    weights = batch[WEIGHT].fill_null(np.nan).to_numpy()
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        place = int(np.argmax(bad))
        raise InputError(
            "dataset.row_weight should be a number of at least 0 in every training row. "
            f"Received: {weights[place]:g}, in row {batch[ROW][place]:,} (from 0)."
        )
    return weights.astype(np.float32)
