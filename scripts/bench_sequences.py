"""Training speed with three long sequences a row, by pooling, over the speed of the same model without them.

    python scripts/bench_sequences.py [--poolings mean attention transformer] [--steps 40] [--turns 3]

The model is the mmoe of `scripts/bench_training.py` on 16 features of width 8; a row has three sequences of 20 to 50
items, 35 on average, that share rows with an item. Variants take turns, and the best of each one's turns enters the
ratio, since seconds depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import time
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

FEATURES, DIM, BATCH, LONGEST, ITEMS = 16, 8, 1024, 50, 7_583


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poolings", nargs="+", default=["mean", "attention", "transformer"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    timers = {name: timer(name, options.steps) for name in ("", *options.poolings)}
    best = dict.fromkeys(timers, 0.0)
    for _ in range(options.turns):
        for name, turn in timers.items():
            best[name] = max(best[name], turn())
    for name, rate in best.items():
        print(f"{name or 'no sequences':<14} {rate:>9,.0f} rows/s  {rate / best['']:.2f}")


def timer(pooling: str, steps: int) -> Any:
    """Return a function that trains `steps` steps and returns rows per second; no sequences without a pooling."""
    import tensorflow as tf

    from funrec.config.inputs import build_features, build_tasks
    from funrec.data.arrays import SequenceArrays
    from funrec.models.backbones.mmoe import MMoE
    from funrec.models.funnels.independent import Independent
    from funrec.models.model import MultiTaskModel
    from funrec.schema import InputLayout
    from funrec.training.batches import BatchStream
    from funrec.training.optimizers import LazyAdam
    from funrec.training.step import TrainingStep
    from funrec.weighting.fixed import Fixed

    draw, rows = np.random.default_rng(0), steps * BATCH
    config: dict[str, Any] = {f"feature_{i}": {"embedding_dim": DIM} for i in range(FEATURES)}
    common = {"kind": "sequence", "share_with": "feature_0", "max_length": LONGEST, "pooling": pooling}
    config |= {f"seen_{i}": common for i in range(3)} if pooling else {}
    features = build_features(config)
    ids = tuple(f"feature_{i}" for i in range(FEATURES))
    sizes = [ITEMS, ITEMS, 27_285, ITEMS, *[100] * 2, *[10] * 10]
    layout = InputLayout(features, ids, (), dict(zip(ids, sizes, strict=True)))
    backbone = MMoE(4, (128, 64), gate_units=(128, 64), dropout=0.1)
    tasks = build_tasks({f"task_{i}": {} for i in range(3)})
    model = MultiTaskModel(backbone, Independent(), layout, tasks, tower_units=(128, 64), tower_dropout=0.1)
    model.initialise(0)
    weighting = Fixed()
    weighting.configure(tasks)

    def zipf(size: int, count: int) -> Any:
        return np.minimum(np.exp(draw.random(count) * np.log(size)), size - 1).astype(np.int32)

    def sequence() -> SequenceArrays:
        lengths = draw.integers(20, LONGEST + 1, rows)
        return SequenceArrays(np.concatenate([[0], np.cumsum(lengths)]), zipf(ITEMS, int(lengths.sum())))

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    split = Rows(
        ids=np.stack([zipf(size, rows) for size in sizes], axis=1),
        sequences={feature.name: sequence() for feature in layout.sequence_features},
        labels=(draw.random((rows, 3)) < 0.3).astype(np.float32),
        numeric=None,
        masks=None,
        weights=None,
    )
    stream = BatchStream(split, layout, BATCH, 0)
    step = TrainingStep(model, weighting, LazyAdam(), 0)
    step.trace(stream.block(0, 1))

    def turn() -> float:
        clock = time.perf_counter()
        step.run(stream.block(0, steps), tf.constant(0, tf.int64))  # gathering the rows is part of the work
        return rows / (time.perf_counter() - clock)

    turn()
    return turn


if __name__ == "__main__":
    main()
