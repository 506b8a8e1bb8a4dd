"""Every weighting on `synthetic_pair`: two regressions whose weight vectors have a cosine of 0.9, 0 and -0.5.

One bottom of 64 units under towers of 8 units, as in MMoE's study (`experiment=mmoe_study`), on 25,000 rows. Cells are
the mean squared error of both tasks on the validation split, as a mean over seeds (of data and of training), and its
standard error. In the last column the second task's labels are five times as large (its error is taken over 25), which
nobody told the weighting. A star marks a scheme whose paired difference from `fixed` over the seeds is more than its
95% interval (Student's t, each cell by itself).

    python scripts/study_weighting.py [--seeds 4] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import t
from tabulate import tabulate

from funrec import run_experiment
from funrec.config.catalogue import describe

SETTINGS = [
    "experiment=mmoe_study",
    "dataset.rows=25000",
    "model.backbone.units=[64]",
    "model.backbone.dropout=0",
    "trainer.epochs=12",
    "trainer.average_steps=100",
]
SCALED = ["dataset.task_correlation=0", "dataset.tasks.y2.label='y2 * 5'"]
COLUMNS = {
    "0.9": (["dataset.task_correlation=0.9"], 1.0),
    "0": (["dataset.task_correlation=0"], 1.0),
    "-0.5": (["dataset.task_correlation=-0.5"], 1.0),
    "0, y2 x 5": (SCALED, 5.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="+", help="schemes besides fixed")
    options = parser.parse_args()
    names = options.only or [name for name, _ in describe("weightings") if name != "fixed"]
    clock = time.perf_counter()
    rows = []
    fixed: dict[str, np.ndarray] = {}
    for name in ["fixed", *names]:
        row = [name]
        for column, (overrides, scale) in COLUMNS.items():
            losses = np.array([loss(name, overrides, scale, seed) for seed in range(options.seeds)])
            fixed.setdefault(column, losses)
            row.append(f"{losses.mean():.4f} +- {standard_error(losses):.4f}{star(losses - fixed[column])}")
        rows.append(row)
        print(*row, sep="  ", flush=True)
    print(tabulate(rows, headers=["loss at correlation", *COLUMNS], tablefmt="github"))
    print(f"{options.seeds} seeds, {time.perf_counter() - clock:.0f} s")


def loss(name: str, overrides: list[str], scale: float, seed: int) -> float:
    """Return the mean over both tasks of the squared error, the second's over `scale` squared."""
    changes = [f"weighting={name}", f"seed={seed}", f"dataset.seed={seed}", *overrides]
    metrics = run_experiment("shared_bottom", *SETTINGS, *changes).metrics
    return (metrics["rmse_y1"] ** 2 + (metrics["rmse_y2"] / scale) ** 2) / 2


def standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def star(differences: np.ndarray) -> str:
    if len(differences) < 2 or not differences.any():
        return ""
    limit = t.ppf(0.975, len(differences) - 1) * standard_error(differences)
    return " *" if abs(differences.mean()) > limit else ""


if __name__ == "__main__":
    main()
