"""What a weighting costs: seconds per step over those of `fixed`, in one run.

    python scripts/bench_weighting.py                                  # all schemes, at 7,583 videos
    python scripts/bench_weighting.py --videos 4371900                 # the largest vocabulary of KuaiRand-1K
    python scripts/bench_weighting.py --only gradnorm mgda pcgrad      # some of them, and fixed

The model and the data are those of `bench_training.py`. Schemes take turns, and each one's best turn enters its ratio.
Schemes that read gradients are also timed at the two other places where those can be taken.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import get_args

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from bench_training import BATCH, DIM, DROPOUT, EXPERTS, FEATURES, TASKS, UNITS, feature_sizes, random_batches

from funrec.config.build import build
from funrec.config.catalogue import describe
from funrec.config.compose import compose
from funrec.config.inputs import build_features, build_tasks
from funrec.models.backbones.mmoe import MMoE
from funrec.models.funnels.independent import Independent
from funrec.models.model import MultiTaskModel
from funrec.schema import InputLayout
from funrec.training.batches import BatchStream
from funrec.training.optimizers import LazyAdam
from funrec.training.step import TrainingStep
from funrec.weighting.base import Weighting
from funrec.weighting.gramian import Shared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[7_583])
    parser.add_argument("--steps", type=int, default=30, help="steps per turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="schemes to time besides fixed")
    parser.add_argument("--cpu", action="store_true", help="count processor seconds: for a machine with other work")
    parser.add_argument("--defaults", action="store_true", help="only where a scheme takes its gradients by default")
    arguments = parser.parse_args()
    names = [name for name, _ in describe("weightings") if name != "fixed"]
    for videos in arguments.videos:
        time_all(videos, arguments.only or names, arguments)


def time_all(videos: int, names: list[str], arguments: argparse.Namespace) -> None:
    """Print the ratios at so many videos; one scheme at a time is held in memory beside `fixed`."""
    sizes = feature_sizes(videos)
    fixed = make_timer("fixed", None, sizes, arguments)
    print(f"{videos:,} videos: fixed {BATCH / min(fixed() for _ in range(arguments.turns)):,.0f} rows/s")
    for name in names:
        default = compose([f"weighting={name}"])["weighting"].get("shared")
        places = [default] if arguments.defaults or default is None else list(get_args(Shared))
        for place in places:
            timer = make_timer(name, place, sizes, arguments)
            seconds = [(fixed(), timer()) for _ in range(arguments.turns)]
            ratio = min(own for _, own in seconds) / min(base for base, _ in seconds)
            where = "" if place is None else f" at {place}" + (" (default)" if place == default else "")
            print(f"  {name + where:<44} {ratio:.2f}", flush=True)
            del timer


def make_timer(name: str, place: str | None, sizes: list[int], arguments: argparse.Namespace) -> Callable[[], float]:
    """Return a function that trains for a turn and returns seconds per step."""
    steps, clock = arguments.steps, time.process_time if arguments.cpu else time.perf_counter
    features = build_features({f"feature_{i}": {"embedding_dim": DIM} for i in range(FEATURES)})
    tasks = build_tasks({f"task_{i}": {} for i in range(TASKS)})
    names = tuple(feature.name for feature in features)
    layout = InputLayout(features, names, (), dict(zip(names, sizes, strict=True)))
    backbone = MMoE(EXPERTS, UNITS, gate_units=UNITS, dropout=DROPOUT)
    model = MultiTaskModel(backbone, Independent(), layout, tasks, tower_units=UNITS, tower_dropout=DROPOUT)
    model.initialise(0)
    overrides = [f"weighting={name}", *([] if place is None else [f"weighting.shared={place}"])]
    weighting = build(compose(overrides)["weighting"], Weighting, "weighting")
    weighting.configure(tasks)
    ids, labels = random_batches(sizes, steps)

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    rows = Rows(ids=ids, numeric=None, sequences={}, labels=labels, masks=None, weights=None, observed=None)
    block = BatchStream(rows, layout, BATCH, 0).block(0, steps)
    step = TrainingStep(model, weighting, LazyAdam(), 0)
    step.trace(block)

    def turn() -> float:
        started = clock()
        step.run(block, tf.constant(0, tf.int64))["losses"].numpy()
        return (clock() - started) / steps

    turn()
    return turn


if __name__ == "__main__":
    main()
