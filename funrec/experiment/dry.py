"""What a run would train, without training it: the parameters of every part, the rows and the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import cache_folder
from funrec.data.preparation.prepare import prepare
from funrec.experiment.building import build_parts
from funrec.experiment.calibration import build_calibration
from funrec.experiment.fitting import check_parts
from funrec.experiment.settings import check_settings
from funrec.experiment.start import find_start
from funrec.runs.protocol import check_rows
from funrec.utils.memory import memory_errors_in_one_line

PARTS = ("embedding", "wide", "interaction", "backbone", "towers")


def describe_run(config: Mapping[str, Any]) -> str:
    """Prepare the data, build everything that a configuration names, and return what there would be to train."""
    check_settings(config)
    dataset = build(config["dataset"], Dataset, "dataset")
    check_parts(config, dataset)
    start = find_start(config, dataset)
    data = prepare(dataset, cache_folder(), None if start is None else start.known)
    if start is not None:
        start.check_unseen(dataset, data)
    if (calibration := build_calibration(config)) is not None:
        calibration.check_data(data.layout, list(data.splits))
    sizes = {name: len(split) for name, split in data.splits.items()}
    check_rows(config, sizes)
    parts = build_parts(config, data.tasks, data.layout)
    with memory_errors_in_one_line():
        parts.model.initialise(config["seed"])
    rows = []
    for name in PARTS:
        layer = getattr(parts.model, name)
        weights = [] if layer is None else layer.weights
        shapes = " ".join(str(tuple(weight.shape)) for weight in weights)
        rows.append([name, type(layer).__name__ if layer is not None else "", f"{_count(weights):,}", shapes])
    rows.append(["all", type(parts.model).__name__, f"{_count(parts.model.weights):,}", ""])
    steps = math.ceil(sizes["train"] / parts.trainer.batch_size)
    table = tabulate(rows, headers=["part", "class", "parameters", "shapes"], maxcolwidths=[None, None, None, 60])
    splits = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    return f"{table}\nrows: {splits}; {steps:,} steps an epoch, at most {parts.trainer.epochs} epochs"


def _count(weights: Any) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
