"""Training speed of the whole model family, beside torch-rechub's models where it has them.

    python scripts/bench_models.py                            # every backbone, and esmm and esm2 on embeddings
    python scripts/bench_models.py --videos 7583 4371900      # also: does the cost grow with the vocabulary?
    python scripts/bench_models.py --peer-python PATH         # with a Python that has torch and torch-rechub 0.9
    python scripts/bench_models.py --interactions             # every interaction under mmoe, and mmoe without
    python scripts/bench_models.py --shards 1                 # batches in one piece, operations over all threads

16 features of width 8, 3 tasks (esmm: 2, as the peer's), batches of 1024, dropout 0.1, Adam, the papers' linear gates,
towers [128, 64], 9 domains; backbones of about 100,000 parameters where their shape allows it: 4 experts [128, 64], two
levels of 2 + 2 experts [64] per tower, and so on. Models take turns, and the best of each one's turns enters a ratio; a
peer takes its turns between two of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bench_training import BATCH, DIM, DROPOUT, FEATURES, UNITS, feature_sizes, random_batches

EMBEDDINGS = {"_target_": "funrec.models.backbones.embedding_only.EmbeddingOnly"}
#: By name: module and class of the backbone, its arguments, and the funnel.
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "logistic": ("logistic.Logistic", {}, "independent"),
    "single_task": ("single_task.SingleTask", {"units": UNITS}, "independent"),
    "shared_bottom": ("shared_bottom.SharedBottom", {"units": (256, 256)}, "independent"),
    "omoe": ("omoe.OMoE", {"num_experts": 4, "expert_units": UNITS}, "independent"),
    "mmoe": ("mmoe.MMoE", {"num_experts": 4, "expert_units": UNITS}, "independent"),
    "cgc": ("cgc.CGC", {"num_specific": 1, "num_shared": 1, "expert_units": UNITS}, "independent"),
    "ple": ("ple.PLE", {"num_levels": 2, "num_specific": 2, "num_shared": 2, "expert_units": (64,)}, "independent"),
    "stem": ("stem.STEM", {"num_specific": 1, "num_shared": 1, "expert_units": UNITS}, "independent"),
    "cross_stitch": ("cross_stitch.CrossStitch", {"units": UNITS}, "independent"),
    "adatt": ("adatt.AdaTT", {"num_specific": 1, "num_shared": 1, "expert_units": (124,)}, "independent"),
    "home": ("home.HoME", {"num_experts": 1, "expert_units": (112,)}, "independent"),
    "dselect_k": ("dselect_k.DSelectK", {"num_experts": 4, "expert_units": UNITS}, "independent"),
    "snr_trans": ("snr_trans.SNRTrans", {"num_networks": 4, "units": (48, 48)}, "independent"),
    "star": ("star.STAR", {"units": (64,), "auxiliary_units": (16,)}, "independent"),
    "pepnet": ("pepnet.PEPNet", {"units": (64, 32), "gate_units": 16}, "independent"),
    "aitm": ("aitm.AITM", {"inner": EMBEDDINGS, "units": UNITS}, "independent"),
    "esmm": ("embedding_only.EmbeddingOnly", {}, "esmm"),
    "esm2": ("embedding_only.EmbeddingOnly", {}, "esm2"),
}
PEERS = ("shared_bottom", "mmoe", "ple", "esmm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[7_583])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--interactions", nargs="*", help="time mmoe with interactions instead; all of them if none is named"
    )
    parser.add_argument("--steps", type=int, default=50, help="steps per turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count processor seconds: for a machine with other work")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--peer-python", help="a Python with torch and torch-rechub")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps, turns = arguments.steps, arguments.turns
    if arguments.peer:
        print(json.dumps(time_peer(arguments.peer, arguments.videos[0], steps, turns)))
        return
    from funrec.training.shards import set_threads

    set_threads({"trainer": {"shards": arguments.shards}})
    names = arguments.models
    if arguments.interactions is not None:
        files = (Path(__file__).parents[1] / "conf" / "model" / "interaction").glob("*.yaml")
        chosen = arguments.interactions or sorted(file.stem for file in files if file.stem != "none")
        names = ["mmoe", *(f"mmoe + {interaction}" for interaction in chosen)]
    best: dict[int, dict[str, float]] = {}
    for videos in arguments.videos:
        clock = time.process_time if arguments.cpu else time.perf_counter
        timers = {name: timer(name, videos, steps, clock, arguments.shards) for name in names}
        best[videos] = {name: max(turn() for _ in range(turns)) for name, (turn, _) in timers.items()}
        for name, (turn, _) in timers.items():  # a second round, at another time
            best[videos][name] = max(best[videos][name], *(turn() for _ in range(turns)))
        print(f"\n{videos:,} videos{'':11}{'parameters':>12}{'rows/s':>10}{'ms a step':>11}{'of mmoe':>9}")
        for name, (_, parameters) in timers.items():
            rate = best[videos][name]
            ratio = f"{best[videos]['mmoe'] / rate:>8.2f}x" if "mmoe" in timers else ""
            print(f"{name:<24}{parameters:>12,}{rate:>10,.0f}{1e3 * BATCH / rate:>11.1f}{ratio}")
        if arguments.peer_python and videos == arguments.videos[0]:
            for name in (name for name in PEERS if name in timers):
                turn, _ = timers[name]
                ours = [turn() for _ in range(turns)]
                peer = run_peer(arguments.peer_python, name, videos, steps, turns)
                ours += [turn() for _ in range(turns)]
                print(
                    f"{name}: {max(ours):,.0f} rows/s, torch-rechub {peer:,.0f}: {max(ours) / peer:.2f} times as fast"
                )
        del timers
    if len(best) > 1:
        small, large = min(best), max(best)
        for name in names:
            print(f"{name}: {best[large][name] / best[small][name]:.2f} of the speed at {large:,} videos")


def timer(name: str, videos: int, steps: int, clock: Callable[[], float], asked: int) -> tuple[Any, int]:
    """Return a function that trains `steps` steps and returns rows per second, and how many parameters its layers have.

    Those of embeddings and towers do not count.
    """
    import tensorflow as tf

    from funrec.config.build import build
    from funrec.config.compose import compose
    from funrec.config.inputs import build_features, build_tasks
    from funrec.models.backbones.base import Backbone
    from funrec.models.funnels.base import Funnel
    from funrec.models.interactions.base import Interaction
    from funrec.models.model import MultiTaskModel
    from funrec.schema import InputLayout
    from funrec.training.batches import BatchStream
    from funrec.training.optimizers import LazyAdam
    from funrec.training.shards import count_shards
    from funrec.training.step import TrainingStep
    from funrec.weighting.fixed import Fixed

    model_name, _, interaction_name = name.partition(" + ")
    backbone_name, options, funnel_name = MODELS[model_name]
    classes = {"independent": "Independent", "esmm": "ESMM", "esm2": "ESM2"}
    dropout = {} if backbone_name.startswith(("logistic", "embedding_only")) else {"dropout": DROPOUT}
    target = f"funrec.models.backbones.{backbone_name}"
    backbone = build({"_target_": target, **options, **dropout}, Backbone, "backbone")
    funnel = build({"_target_": f"funrec.models.funnels.{funnel_name}.{classes[funnel_name]}"}, Funnel, "funnel")
    chosen = compose([f"model/interaction={interaction_name or 'none'}"])["model"]["interaction"]
    interaction = build(chosen, Interaction, "interaction")
    tasks = build_tasks({"click": {}, "like": {"after": "click"}, "follow": {"after": "click"}})
    tasks = tasks[: 2 if name == "esmm" else 3]
    sizes = feature_sizes(videos)
    features = build_features({f"feature_{i}": {"embedding_dim": DIM} for i in range(FEATURES)})
    names = tuple(feature.name for feature in features)
    layout = InputLayout(features, names, (), dict(zip(names, sizes, strict=True)), domain=names[-1])
    towers = {"tower_units": UNITS, "tower_dropout": DROPOUT, "embedding_l2": 0.0}
    model = MultiTaskModel(backbone, funnel, layout, tasks, interaction, **towers)
    ids, labels = random_batches(sizes, steps)
    model.initialise(0, counts={name: np.bincount(ids[:, i], minlength=sizes[i]) for i, name in enumerate(names)})
    weighting = Fixed()
    weighting.configure(tasks)

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    labels = np.minimum.accumulate(labels[:, : len(tasks)], axis=1)
    rows = Rows(ids=ids, numeric=None, sequences={}, labels=labels, masks=None, weights=None, observed=None)
    stream = BatchStream(rows, layout, BATCH, 0)
    step = TrainingStep(model, weighting, LazyAdam(), 0, shards=count_shards(model, asked, BATCH))
    step.trace(stream.block(0, 1))

    def turn() -> float:
        start = clock()
        step.run(stream.block(0, steps), tf.constant(0, tf.int64))  # gathering the rows is part of the work
        return steps * BATCH / (clock() - start)

    turn()
    return turn, backbone.count_params() + interaction.count_params()


def run_peer(python: str, name: str, videos: int, steps: int, turns: int) -> float:
    """Time one of torch-rechub's models in a Python of its own."""
    command = [python, __file__, "--peer", name, "--videos", str(videos), "--steps", str(steps), "--turns", str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The peer failed: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def time_peer(name: str, videos: int, steps: int, turns: int) -> float:
    """Return torch-rechub's rows per second, with its own trainer's step."""
    import torch
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.multi_task import ESMM, MMOE, PLE, SharedBottom

    sizes = feature_sizes(videos)
    features = [SparseFeature(f"feature_{i}", vocab_size=size, embed_dim=DIM) for i, size in enumerate(sizes)]
    tasks = 2 if name == "esmm" else 3

    def network(units: tuple[int, ...]) -> dict[str, Any]:
        return {"dims": list(units), "dropout": DROPOUT, "activation": "relu"}

    kinds, towers = ["classification"] * tasks, [network(UNITS) for _ in range(tasks)]
    if name == "shared_bottom":
        model = SharedBottom(features, kinds, network((256, 256)), towers)
    elif name == "mmoe":
        model = MMOE(features, kinds, 4, network(UNITS), towers)
    elif name == "ple":
        model = PLE(features, kinds, 2, 2, 2, network((64,)), towers)
    else:
        model = ESMM(features[:8], features[8:], network(UNITS), network(UNITS))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.nn.BCELoss()
    ids, labels = random_batches(sizes, steps)
    columns = {f"feature_{i}": torch.tensor(ids[:, i], dtype=torch.long) for i in range(FEATURES)}
    targets = torch.tensor(np.minimum.accumulate(labels[:, :tasks], axis=1))
    model.train()
    best = 0.0
    for _ in range(turns + 1):
        clock = time.perf_counter()
        for start in range(0, steps * BATCH, BATCH):
            batch = {column: values[start : start + BATCH] for column, values in columns.items()}
            predicted, target = model(batch), targets[start : start + BATCH]
            if name == "esmm":
                predicted = predicted[:, 1:]  # its columns are pCVR, pCTR, pCTCVR
            total = sum(loss(predicted[:, t], target[:, t]) for t in range(tasks)) / tasks
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        best = max(best, steps * BATCH / (time.perf_counter() - clock))
    return best


if __name__ == "__main__":
    main()
