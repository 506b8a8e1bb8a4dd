"""What checkpoints cost: training with and without them, on a model whose embeddings are those of 4.37 million videos.

    python scripts/bench_checkpoint.py                       # epochs of about a minute, two turns of each
    python scripts/bench_checkpoint.py --videos 7583 --steps 2000

The model is that of bench_training.py: 16 features of width 8, an MMoE, batches of 1024, lazy Adam. A training with
checkpoints writes one whenever it may (at every edge of a block, where it costs at most 3% of the time since the last)
and at the end of its epochs; both kinds write the best epoch's weights. Variants take turns. Seconds depend on the
machine and its other work; processor seconds less so, and both are printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

from bench_training import BATCH, DIM, DROPOUT, EXPERTS, FEATURES, TASKS, UNITS, feature_sizes, random_batches
from tabulate import tabulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4_371_900)
    parser.add_argument("--steps", type=int, default=4000, help="steps per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        train = trainer(arguments.videos, arguments.steps, arguments.epochs, Path(folder))
        train(False, warm_up=True)
        found = [(name, *train(name == "with")) for _ in range(arguments.turns) for name in ("without", "with")]
    best = {
        name: [min(row[column] for row in found if row[0] == name) for column in (1, 2)] for name in ("without", "with")
    }
    written = [checkpoint for row in found for checkpoint in row[3] if row[0] == "with"]
    rows = arguments.steps * BATCH
    print(f"{arguments.videos:,} videos, {arguments.epochs} epochs of {rows:,} rows in")
    print(
        tabulate(
            [
                [name, f"{wall / arguments.epochs:.1f}", f"{processor / arguments.epochs:.1f}"]
                for name, (wall, processor) in best.items()
            ],
            headers=["checkpoints", "seconds per epoch", "processor seconds per epoch"],
            tablefmt="github",
        )
    )
    wall, processor = (best["with"][i] / best["without"][i] - 1 for i in range(2))
    print(f"checkpoints cost {wall:+.1%} of the time, {processor:+.1%} of the processor's")
    copying, writing, processor = (sorted(column)[len(written) // 2] for column in zip(*written, strict=True))
    print(
        f"{len(written) / arguments.turns:.1f} checkpoints per training, in the median {copying:.1f} s to copy and "
        f"{writing:.1f} s to write beside it, of which {processor:.1f} s on the processor"
    )


def trainer(videos: int, steps: int, epochs: int, folder: Path) -> Any:
    """Return a function that trains with or without checkpoints: its seconds, its processor's, every checkpoint's."""
    from funrec.config.inputs import build_features, build_tasks
    from funrec.models.backbones.mmoe import MMoE
    from funrec.models.funnels.independent import Independent
    from funrec.models.model import MultiTaskModel
    from funrec.schema import InputLayout
    from funrec.training.checkpoints import BackgroundWriter, CheckpointFile, Checkpoints
    from funrec.training.optimizers import LazyAdam
    from funrec.training.trainer import Trainer
    from funrec.weighting.fixed import Fixed

    features = build_features({f"feature_{i}": {"embedding_dim": DIM} for i in range(FEATURES)})
    tasks = build_tasks({f"task_{i}": {} for i in range(TASKS)})
    names = tuple(feature.name for feature in features)
    layout = InputLayout(features, names, (), dict(zip(names, feature_sizes(videos), strict=True)))
    backbone = MMoE(EXPERTS, UNITS, gate_units=UNITS, dropout=DROPOUT)
    model = MultiTaskModel(backbone, Independent(), layout, tasks, tower_units=UNITS, tower_dropout=DROPOUT)
    model.initialise(0)
    weighting, optimizer = Fixed(), LazyAdam()
    weighting.configure(tasks)
    ids, labels = random_batches(feature_sizes(videos), steps)

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.ids)

    rows = Rows(ids=ids, numeric=None, sequences={}, labels=labels, masks=None, weights=None, observed=None)
    written: list[tuple[float, float, float]] = []
    save, wait = Checkpoints._save, BackgroundWriter.wait

    def measured_save(self: Checkpoints, session: Any, best: Any = None, has_checkpoint: bool = True) -> None:
        save(self, session, best, has_checkpoint)
        if has_checkpoint and self.file is not None:
            written.append((self._seconds_of_copying or 0.0, 0.0, 0.0))

    def measured_wait(self: BackgroundWriter) -> None:
        is_working = self._thread is not None
        wait(self)
        if is_working and written:
            written[-1] = written[-1][0], self.seconds, self.processor_seconds

    Checkpoints._save, BackgroundWriter.wait = measured_save, measured_wait  # type: ignore[method-assign] # to look on

    def train(has_checkpoints: bool, warm_up: bool = False) -> tuple[float, float, list[tuple[float, float, float]]]:
        written.clear()
        file = CheckpointFile(folder / "checkpoint.npz") if has_checkpoints else None
        trainer = Trainer(1 if warm_up else epochs, BATCH, monitor=None, patience=None, checkpoint_minutes=1e-6)
        clock, processor = time.perf_counter(), time.process_time()
        trainer.fit(model, rows, weighting, optimizer, dict, folder / "model", seed=0, checkpoint=file)
        seconds = time.perf_counter() - clock, time.process_time() - processor
        (folder / "checkpoint.npz").unlink(missing_ok=True)
        return *seconds, list(written)

    return train


if __name__ == "__main__":
    main()
