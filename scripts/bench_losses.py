"""What losses within groups cost: a step against that of the log loss, and batches by group against batches by row.

    python scripts/bench_losses.py

Processor seconds, the best of five, losses in turn, mmoe of three tasks, each with the loss, 20 users' rows a batch.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.experiment.building import build_model
from funrec.schema import CategoricalFeature, InputLayout, Task
from funrec.training.batches import BatchStream
from funrec.training.optimizers import LazyAdam
from funrec.training.step import TrainingStep
from funrec.weighting.base import Weighting

LOSSES = ("bce", "pairwise", "listwise", "jrc")
ROWS, FEATURES, IDS, USERS, BATCH, STEPS, ROUNDS = 200_000, 16, 5_000, 20_000, 1024, 40, 5


class Rows:
    """Random rows: what `BatchStream` reads."""

    numeric, sequences, masks, weights, observed = None, {}, None, None, None

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.ids = draw.integers(1, IDS, (ROWS, FEATURES)).astype(np.int32)
        self.labels = (draw.random((ROWS, 3)) < 0.3).astype(np.float32)
        self.groups = draw.integers(0, USERS, ROWS).astype(np.int32)

    def __len__(self) -> int:
        return ROWS


def main() -> None:
    rows: Any = Rows()
    names = tuple(f"f{place}" for place in range(FEATURES))
    layout = InputLayout(tuple(map(CategoricalFeature, names)), names, (), dict.fromkeys(names, IDS))
    config = compose([])
    steps = {}
    for loss in LOSSES:
        tasks = tuple(Task(name, loss=loss) for name in ("click", "view", "like"))
        model = build_model(config["model"], tasks, layout, "float32")
        model.initialise(0, dict.fromkeys(("click", "view", "like"), 0.3), dict.fromkeys(names, np.full(IDS, 40)))
        weighting = build(config["weighting"], Weighting, "weighting")
        weighting.configure(tasks)
        block = BatchStream(rows, layout, BATCH, 0, model.needs_groups, by_group=True).block(0, STEPS)
        step = TrainingStep(model, weighting, LazyAdam(0.001), 0)
        step.run(block, tf.constant(0, tf.int64))
        steps[loss] = (step, block)
    best = dict.fromkeys(LOSSES, np.inf)
    for _ in range(ROUNDS):
        for loss, (step, block) in steps.items():
            clock = time.process_time()
            step.run(block, tf.constant(0, tf.int64))["losses"].numpy()
            best[loss] = min(best[loss], (time.process_time() - clock) / STEPS)
    for loss, seconds in best.items():
        print(f"{loss:<10} {1000 * seconds:6.2f} ms a step, {seconds / best['bce']:.2f} of bce")
    paths = {}
    for by_group in (False, True):
        clock = time.process_time()
        stream = BatchStream(rows, layout, BATCH, 0, True, by_group)
        for first in range(0, stream.steps_until(3), 100):
            stream.block(first, 100)
        paths[by_group] = time.process_time() - clock
    print(f"batches by group: {paths[True] / paths[False]:.2f} of the data path by row, over three passes")


if __name__ == "__main__":
    main()
