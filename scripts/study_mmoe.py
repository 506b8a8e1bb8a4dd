"""MMoE's study of task relatedness (Ma et al., KDD 2018, section 3.2 and figure 4), on `synthetic_pair`.

The paper's networks, of nearly equal numbers of parameters: 8 experts of 16 units (omoe, mmoe) or one bottom of 128
(shared_bottom), and towers of 8 units. For every correlation of the two tasks, the mean squared error of both on the
validation split, as a mean over seeds (of data and of training), and its standard error.

    python scripts/study_mmoe.py [--seeds 3] [override ...]
"""

from __future__ import annotations

import argparse
import statistics
import time

from tabulate import tabulate

from funrec import run_experiment

EXPERTS = ["model.backbone.num_experts=8", "model.backbone.expert_units=[16]", "model.backbone.dropout=0"]
MODELS = {
    "shared_bottom": ["model.backbone.units=[128]", "model.backbone.dropout=0"],
    "omoe": EXPERTS,
    "mmoe": EXPERTS,
}
CORRELATIONS = (1.0, 0.9, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = time.perf_counter()
    rows = []
    for model, network in MODELS.items():
        row = [model]
        for correlation in CORRELATIONS:
            losses = []
            for seed in range(options.seeds):
                changes = [f"seed={seed}", f"dataset.seed={seed}", f"dataset.task_correlation={correlation}"]
                run = run_experiment(model, "experiment=mmoe_study", *network, *changes, *options.overrides)
                losses.append((run.metrics["rmse_y1"] ** 2 + run.metrics["rmse_y2"] ** 2) / 2)
            error = statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else float("nan")
            row.append(f"{statistics.mean(losses):.4f} +- {error:.4f}")
            print(model, correlation, row[-1], flush=True)
        rows.append(row)
    print(tabulate(rows, headers=["loss at correlation", *(f"{value:g}" for value in CORRELATIONS)], tablefmt="grid"))
    print(f"{options.seeds} seeds, {time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
