"""Training speed: this package's loop beside the same model from plain Keras layers, torch-rechub and expert PyTorch.

    python scripts/bench_training.py                          # ratios at 7,583 and at 4,371,900 videos
    python scripts/bench_training.py --peer-python PATH       # with a Python that has torch and torch-rechub 0.9
    python scripts/bench_training.py --peer-python PATH --cells    # and, with fbgemm-gpu-cpu, an expert's PyTorch:
                                                              # float32 and bfloat16, with dropout and without
    python scripts/bench_training.py --cores                  # one core against all of them
    python scripts/bench_training.py --workers                # one worker on a core, against two on a core each

The model is an MMoE of 4 experts [128, 64] with hidden gates and towers [128, 64], 16 features of width 8, 3 tasks,
batches of 1024, dropout 0.1, Adam. All variants train on the same random ids, each in a process of its own. Seconds
depend on the machine and its other work, so variants take turns, and the best of each one's turns enters the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

FEATURES, DIM, TASKS, BATCH = 16, 8, 3, 1024
UNITS = (128, 64)
EXPERTS = 4
DROPOUT = 0.1


def main() -> None:
    global BATCH
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[7_583, 4_371_900])
    parser.add_argument(
        "--steps", type=int, default=100, help="steps per turn; fewer for variants slower than 10k rows/s"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peer-python", help="a Python with torch and torch-rechub")
    parser.add_argument("--cells", action="store_true", help="float32 and bfloat16, with dropout and without")
    parser.add_argument("--cores", action="store_true", help="this package on one core and on all")
    parser.add_argument("--workers", action="store_true", help="one and two workers, a core each; bytes they exchange")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--variant", choices=list(TIMERS), help=argparse.SUPPRESS)
    parser.add_argument("--dropout", type=float, default=DROPOUT)
    parser.add_argument("--precision", default="float32", help="float32 or bfloat16")
    arguments = parser.parse_args()
    BATCH = arguments.batch
    if arguments.variant:
        print(json.dumps(best_turn(TIMERS[arguments.variant](arguments), arguments.turns)))
    elif arguments.cores:
        compare_cores(arguments)
    elif arguments.workers:
        for videos in arguments.videos:
            compare_workers(arguments, videos)
    elif arguments.cells:
        for precision in ("float32", "bfloat16"):
            for dropout in (0.1, 0.0):
                print(f"{precision}, dropout {dropout}:")
                compare(arguments, ["funrec", "fbgemm", *(["rechub"] if dropout else [])], precision, dropout)
    else:
        names = ["funrec", "keras", *(["rechub"] if arguments.peer_python else [])]
        rates = {videos: compare(arguments, names, videos=videos) for videos in arguments.videos}
        if len(rates) > 1:
            small, large = min(rates), max(rates)
            ratio = rates[large]["funrec"] / rates[small]["funrec"]
            print(f"funrec at {large:,} videos / at {small:,} = {ratio:.2f}")


def compare(
    arguments: Any, names: list[str], precision: str = "float32", dropout: float = 0.1, videos: int | None = None
) -> dict[str, float]:
    """Time variants in turn, twice, and print their rates and ratios."""
    videos = videos or arguments.videos[0]
    options = {"videos": videos, "precision": precision, "dropout": dropout}
    best = dict.fromkeys(names, 0.0)
    for _ in range(2):
        for name in names:
            best[name] = max(best[name], run_variant(arguments, name, **options))
    print(f"{videos:>9,} videos: " + ", ".join(f"{name} {rate:,.0f} rows/s" for name, rate in best.items()))
    for name in names[1:]:
        print(f"{'':>9}  funrec / {name} = {best['funrec'] / best[name]:.2f}")
    return best


def compare_cores(arguments: Any) -> None:
    """Time one core and all of them, in turn."""
    cores = sorted(os.sched_getaffinity(0))
    rates = {1: 0.0, len(cores): 0.0}
    for _ in range(2):
        for count in rates:
            os.sched_setaffinity(0, set(cores[:count]))
            rates[count] = max(rates[count], run_variant(arguments, "funrec", videos=arguments.videos[0]))
    os.sched_setaffinity(0, set(cores))
    for count, rate in rates.items():
        print(f"{count} cores: {rate:,.0f} rows/s, {rate / rates[1]:.2f} of one")


def compare_workers(arguments: Any, videos: int) -> None:
    """Time one worker on one core and two on a core each, in turn, at the same global batch."""
    cores = sorted(os.sched_getaffinity(0))
    rates, sent = {1: 0.0, 2: 0.0}, 0
    for _ in range(2):
        for count in rates:
            addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
            before = bytes_on_loopback()
            team = []
            for index in range(count):
                cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                known = {**os.environ, **({"TF_CONFIG": json.dumps(cluster)} if count > 1 else {})}
                os.sched_setaffinity(0, {cores[index]})  # which a process inherits
                command = variant_command(arguments, "funrec", videos=videos, shards=1)
                team.append(subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
            os.sched_setaffinity(0, set(cores))
            rate = min(float(json.loads(member.communicate()[0].decode().splitlines()[-1])) for member in team)
            rates[count] = max(rates[count], rate)
            sent = bytes_on_loopback() - before
    steps = arguments.steps * (arguments.turns + 1) + 1
    inputs = FEATURES * DIM
    bank = inputs * UNITS[0] + UNITS[0] * UNITS[1] + sum(UNITS)
    tower = UNITS[1] * UNITS[0] + UNITS[0] * UNITS[1] + sum(UNITS) + UNITS[1] + 1
    dense = 4 * ((EXPERTS + TASKS) * bank + TASKS * UNITS[1] * EXPERTS + TASKS * tower)
    rows = 4 * BATCH * FEATURES * (DIM + 1)
    print(
        f"{videos:>9,} videos: one worker {rates[1]:,.0f} rows/s, two {rates[2]:,.0f}, {rates[2] / rates[1]:.2f} times"
    )
    print(f"{'':>9}  {sent / steps / 1e6:.2f} MB a step between them, {(2 * dense + rows) / 1e6:.2f} by the formula")


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def bytes_on_loopback() -> int:
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


def run_variant(arguments: Any, name: str, **options: Any) -> float:
    """Return a variant's rows per second, measured in a process of its own: threads are a process's."""
    command = variant_command(arguments, name, **options)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def variant_command(arguments: Any, name: str, **options: Any) -> list[str]:
    python = sys.executable if name in ("funrec", "keras") else arguments.peer_python
    options = {
        "steps": arguments.steps,
        "turns": arguments.turns,
        "shards": arguments.shards,
        "batch": BATCH,
        **options,
    }
    flags = [str(part) for option, value in options.items() for part in (f"--{option}", value)]
    return [python, __file__, "--variant", name, *flags]


def best_turn(turn: Any, turns: int) -> float:
    turn()
    return max(turn() for _ in range(turns))


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


def funrec_timer(arguments: Any) -> Any:
    """Return a function that trains `steps` steps with our loop and returns rows per second."""
    import tensorflow as tf

    from funrec.training.shards import set_threads
    from funrec.training.workers import join_workers

    set_threads({"trainer": {"shards": arguments.shards}})
    cluster = json.loads(os.environ.get("TF_CONFIG", "null"))
    workers = join_workers(1 if cluster is None else len(cluster["cluster"]["worker"]))
    sizes, steps, dropout = feature_sizes(arguments.videos[0]), arguments.steps, arguments.dropout

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
    backbone = MMoE(EXPERTS, UNITS, gate_units=UNITS, dropout=dropout)
    precision = "float32" if arguments.precision == "float32" else "mixed_bfloat16"
    network = {"tower_units": UNITS, "tower_dropout": dropout, "precision": precision}
    model = MultiTaskModel(backbone, Independent(), layout, tasks, **network)
    model.initialise(0)
    weighting = Fixed()
    weighting.configure(tasks)
    ids, labels = random_batches(sizes, steps)

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    rows = Rows(ids=ids, numeric=None, sequences={}, labels=labels, masks=None, weights=None, observed=None)
    stream = BatchStream(rows, layout, BATCH, 0, part=workers.part(BATCH))
    step = TrainingStep(model, weighting, LazyAdam(), 0, shards=arguments.shards, workers=workers)
    step.trace(stream.block(0, 1))

    def turn() -> float:
        clock = time.perf_counter()
        step.run(stream.block(0, steps), tf.constant(0, tf.int64))  # gathering the rows is part of the work
        return steps * BATCH / (time.perf_counter() - clock)

    return turn


def keras_timer(arguments: Any) -> Any:
    """Return a function that trains the same model from plain Keras layers with `Model.fit`."""
    import keras

    sizes, steps, dropout = feature_sizes(arguments.videos[0]), arguments.steps, arguments.dropout

    def network(x: Any) -> Any:
        for units in UNITS:
            x = keras.layers.Dropout(dropout)(keras.layers.Dense(units, activation="relu")(x))
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

    return turn


def rechub_timer(arguments: Any) -> Any:
    """Return a function that trains torch-rechub's MMoE, with its own trainer's step."""
    import torch
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.multi_task import MMOE

    sizes = feature_sizes(arguments.videos[0])
    features = [SparseFeature(f"feature_{i}", vocab_size=size, embed_dim=DIM) for i, size in enumerate(sizes)]
    mlp = {"dims": list(UNITS), "dropout": arguments.dropout, "activation": "relu"}
    model = MMOE(features, ["classification"] * TASKS, EXPERTS, mlp, [dict(mlp) for _ in range(TASKS)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = arguments.steps if arguments.videos[0] < 1_000_000 else max(5, arguments.steps // 20)
    ids, labels = random_batches(sizes, steps)
    columns = {f"feature_{i}": torch.tensor(ids[:, i], dtype=torch.long) for i in range(FEATURES)}
    model.train()

    def predict(rows: slice) -> Any:
        return model({name: column[rows] for name, column in columns.items()})

    return torch_turn(predict, [optimizer], labels, torch.nn.BCELoss(), arguments.precision)


def fbgemm_timer(arguments: Any) -> Any:
    """Return a function that trains what an expert writes in PyTorch: FBGEMM's fused tables, whose update is part of
    their backward pass, and experts, gates and towers as batched products."""
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    sizes, dropout = feature_sizes(arguments.videos[0]), arguments.dropout
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(size, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU) for size in sizes],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,  # of its exact optimizers, the one that runs on a CPU
        learning_rate=1e-3,
        pooling_mode=PoolingMode.SUM,
        device="cpu",
    )
    tables.init_embedding_weights_uniform(-0.05, 0.05)

    class Bank(torch.nn.Module):
        def __init__(self, count: int, widths: list[int]) -> None:
            super().__init__()
            pairs = list(pairwise(widths))
            bound = [(6 / (a + b)) ** 0.5 for a, b in pairs]
            self.kernels = torch.nn.ParameterList(
                torch.empty(count, a, b).uniform_(-limit, limit) for (a, b), limit in zip(pairs, bound, strict=True)
            )
            self.biases = torch.nn.ParameterList(torch.zeros(count, 1, b) for _, b in pairs)

        def forward(self, x: Any) -> Any:
            for kernel, bias in zip(self.kernels, self.biases, strict=True):
                x = torch.nn.functional.relu(torch.baddbmm(bias.expand(-1, x.shape[1], -1), x, kernel))
                x = torch.nn.functional.dropout(x, dropout) if dropout else x
            return x

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inputs = FEATURES * DIM
            self.experts, self.gates = Bank(EXPERTS, [inputs, *UNITS]), Bank(TASKS, [inputs, *UNITS])
            self.towers = Bank(TASKS, [UNITS[-1], *UNITS])
            self.gate = torch.nn.Parameter(torch.empty(TASKS, UNITS[-1], EXPERTS).uniform_(-0.2, 0.2))
            self.head = torch.nn.Parameter(torch.empty(TASKS, UNITS[-1], 1).uniform_(-0.2, 0.2))

        def forward(self, x: Any) -> Any:
            experts = self.experts(x.expand(EXPERTS, -1, -1))
            gates = torch.softmax(torch.bmm(self.gates(x.expand(TASKS, -1, -1)), self.gate), -1)
            mixed = torch.bmm(gates.transpose(0, 1), experts.transpose(0, 1)).transpose(0, 1)
            return torch.bmm(self.towers(mixed), self.head)[:, :, 0].t().float()

    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    ids, labels = random_batches(sizes, arguments.steps)
    by_feature = torch.tensor(ids, dtype=torch.long)
    offsets = torch.arange(FEATURES * BATCH + 1)

    def predict(rows: slice) -> Any:
        looked_up = tables(by_feature[rows].t().reshape(-1), offsets)
        return network(looked_up.float()[None])

    return torch_turn(predict, [optimizer], labels, torch.nn.BCEWithLogitsLoss(), arguments.precision)


def torch_turn(predict: Any, optimizers: list[Any], labels: np.ndarray, loss: Any, precision: str) -> Any:
    """Return a function that trains over all rows and returns rows per second."""
    import torch

    targets = torch.tensor(labels)

    def turn() -> float:
        clock = time.perf_counter()
        for start in range(0, len(labels), BATCH):
            rows = slice(start, start + BATCH)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                predicted = predict(rows)
            total = loss(predicted.float(), targets[rows])
            for optimizer in optimizers:
                optimizer.zero_grad()
            total.backward()
            for optimizer in optimizers:
                optimizer.step()
        return len(labels) / (time.perf_counter() - clock)

    return turn


TIMERS = {"funrec": funrec_timer, "keras": keras_timer, "rechub": rechub_timer, "fbgemm": fbgemm_timer}

if __name__ == "__main__":
    main()
