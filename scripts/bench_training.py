"""Training speed: this package's loop beside the same model from plain Keras layers, and beside torch-rechub.

    python scripts/bench_training.py                          # ratios at 7,583 and at 4,371,900 videos
    python scripts/bench_training.py --peer-python PATH       # with a Python that has torch and torch-rechub 0.9

The model is an MMoE of 4 experts [128, 64] with hidden gates and towers [128, 64], 16 features of width 8, 3 tasks,
batches of 1024, dropout 0.1, Adam. All variants train on the same random ids. Seconds depend on the machine and its
other work, so variants take turns, and the best of each one's turns enters the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

FEATURES, DIM, TASKS, BATCH = 16, 8, 3, 1024
UNITS = (128, 64)
EXPERTS = 4
DROPOUT = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[7_583, 4_371_900])
    parser.add_argument(
        "--steps", type=int, default=100, help="steps per turn; fewer for variants slower than 10k rows/s"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peer-python", help="a Python with torch and torch-rechub")
    parser.add_argument("--variant", choices=["peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant == "peer":
        print(json.dumps(time_peer(arguments.videos[0], arguments.steps, arguments.turns)))
        return
    ours = {}
    for videos in arguments.videos:
        sizes = feature_sizes(videos)
        timers = {"funrec": funrec_timer(sizes, arguments.steps), "keras": keras_timer(sizes, arguments.steps)}
        best = {name: 0.0 for name in timers}
        for _ in range(arguments.turns):
            for name, turn in timers.items():
                best[name] = max(best[name], turn())
        if arguments.peer_python:
            best["torch-rechub"] = run_peer(arguments.peer_python, videos, arguments.steps, arguments.turns)
            for _ in range(arguments.turns):
                best["funrec"] = max(best["funrec"], timers["funrec"]())
        ours[videos] = best["funrec"]
        print(f"{videos:>9,} videos: " + ", ".join(f"{name} {rate:,.0f} rows/s" for name, rate in best.items()))
        for name in list(best)[1:]:
            print(f"{'':>9}  funrec / {name} = {best['funrec'] / best[name]:.2f}")
    if len(ours) > 1:
        small, large = min(ours), max(ours)
        print(f"funrec at {large:,} videos / at {small:,} = {ours[large] / ours[small]:.2f}")


def feature_sizes(videos: int) -> list[int]:
    """Rows of each feature's table: users, videos, authors, music, and a dozen small ones; the three grow together."""
    return [27_285, videos, videos, videos, *[100] * 2, *[10] * 10]


def random_batches(sizes: list[int], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids `(steps * BATCH, FEATURES)`, Zipf-like within each feature, and random labels."""
    generator = np.random.default_rng(0)
    rows = steps * BATCH
    uniform = generator.random((rows, len(sizes)))
    ids = np.minimum(np.exp(uniform * np.log(sizes)), np.asarray(sizes) - 1).astype(np.int32)
    return ids, (generator.random((rows, TASKS)) < 0.3).astype(np.float32)


def funrec_timer(sizes: list[int], steps: int) -> Any:
    """Return a function that trains `steps` steps with our loop and returns rows per second."""
    import tensorflow as tf

    from funrec.config.inputs import build_features, build_tasks
    from funrec.models.backbones.mmoe import MMoE
    from funrec.models.funnels.independent import Independent
    from funrec.models.model import MultiTaskModel
    from funrec.schema import InputLayout
    from funrec.training.batches import BatchStream
    from funrec.training.optimizers import LazyAdam
    from funrec.training.step import TrainingStep
    from funrec.weighting.fixed import Fixed

    features = build_features({f"feature_{i}": {"embedding_dim": DIM} for i in range(FEATURES)})
    tasks = build_tasks({f"task_{i}": {} for i in range(TASKS)})
    names = tuple(feature.name for feature in features)
    layout = InputLayout(features, names, (), dict(zip(names, sizes, strict=True)))
    backbone = MMoE(EXPERTS, UNITS, gate_units=UNITS, dropout=DROPOUT)
    model = MultiTaskModel(backbone, Independent(), layout, tasks, tower_units=UNITS, tower_dropout=DROPOUT)
    model.initialise(0)
    weighting = Fixed()
    weighting.configure(tasks)
    ids, labels = random_batches(sizes, steps)

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    rows = Rows(ids=ids, numeric=None, sequences={}, labels=labels, masks=None, weights=None)
    stream = BatchStream(rows, layout, BATCH, 0)
    step = TrainingStep(model, weighting, LazyAdam(), 0)
    step.trace(stream.block(0, 1))

    def turn() -> float:
        clock = time.perf_counter()
        step.run(stream.block(0, steps), tf.constant(0, tf.int64))  # gathering the rows is part of the work
        return steps * BATCH / (time.perf_counter() - clock)

    turn()
    return turn


def keras_timer(sizes: list[int], steps: int) -> Any:
    """Return a function that trains the same model from plain Keras layers with `Model.fit`."""
    import keras

    def network(x: Any) -> Any:
        for units in UNITS:
            x = keras.layers.Dropout(DROPOUT)(keras.layers.Dense(units, activation="relu")(x))
        return x

    inputs = keras.Input((FEATURES,), dtype="int32")
    looked_up = [keras.layers.Embedding(size, DIM)(inputs[:, i]) for i, size in enumerate(sizes)]
    x = keras.layers.Concatenate()(looked_up)
    experts = keras.ops.stack([network(x) for _ in range(EXPERTS)], axis=1)
    heads = []
    for _ in range(TASKS):
        gate = keras.layers.Dense(EXPERTS, activation="softmax")(network(x))
        mixed = keras.ops.einsum("be,beu->bu", gate, experts)
        heads.append(keras.layers.Dense(1, activation="sigmoid")(network(mixed)))
    model = keras.Model(inputs, keras.layers.Concatenate()(heads))
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy())
    steps = steps if max(sizes) < 1_000_000 else max(5, steps // 20)
    ids, labels = random_batches(sizes, steps)

    def turn() -> float:
        clock = time.perf_counter()
        model.fit(ids, labels, batch_size=BATCH, epochs=1, verbose=0, shuffle=True)
        return steps * BATCH / (time.perf_counter() - clock)

    turn()
    return turn


def run_peer(python: str, videos: int, steps: int, turns: int) -> float:
    """Time torch-rechub in a Python of its own."""
    command = [python, __file__, "--variant", "peer", "--videos", str(videos)]
    done = subprocess.run(
        [*command, "--steps", str(steps), "--turns", str(turns)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"The peer failed: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def time_peer(videos: int, steps: int, turns: int) -> float:
    """Return torch-rechub's rows per second, with its own trainer's step."""
    import torch
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.multi_task import MMOE

    sizes = feature_sizes(videos)
    features = [SparseFeature(f"feature_{i}", vocab_size=size, embed_dim=DIM) for i, size in enumerate(sizes)]
    mlp = {"dims": list(UNITS), "dropout": DROPOUT, "activation": "relu"}
    model = MMOE(features, ["classification"] * TASKS, EXPERTS, mlp, [dict(mlp) for _ in range(TASKS)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.nn.BCELoss()
    steps = steps if videos < 1_000_000 else max(5, steps // 20)
    ids, labels = random_batches(sizes, steps)
    columns = {f"feature_{i}": torch.tensor(ids[:, i], dtype=torch.long) for i in range(FEATURES)}
    targets = torch.tensor(labels)
    model.train()
    best = 0.0
    for _ in range(turns + 1):
        clock = time.perf_counter()
        for start in range(0, steps * BATCH, BATCH):
            batch = {name: column[start : start + BATCH] for name, column in columns.items()}
            predicted = model(batch)
            total = sum(loss(predicted[:, t], targets[start : start + BATCH, t]) for t in range(TASKS)) / TASKS
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        best = max(best, steps * BATCH / (time.perf_counter() - clock))
    return best


if __name__ == "__main__":
    main()
