"""What the studies of planted truth share: tables over paired seeds, and how well probabilities fit the truth."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from scipy.stats import t
from study_esmm import expected_auc

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset

#: By arm and measure, a value per seed.
Found = dict[str, dict[str, list[float]]]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half width of the 95% interval over seeds (Student's t)."""
    width = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values)), float(width)


def calibration_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean distance of predictions from the truth over tenths of the predictions, over the mean truth."""
    tenths = np.array_split(np.argsort(predicted), 10)
    return float(np.mean([abs(predicted[rows].mean() - truth[rows].mean()) for rows in tenths]) / truth.mean())


def measure_conversion(truth: np.ndarray, predicted: np.ndarray) -> dict[str, list[float]]:
    """Return how well predictions `(rows,)` rank and match the true probabilities `(rows,)`."""
    return {
        "AUC": [expected_auc(truth, predicted)],
        "predicted/true": [float(predicted.mean() / truth.mean())],
        "calibration error": [calibration_error(truth, predicted)],
    }


def generate(rows: int, seed: int, *overrides: str) -> pl.DataFrame:
    """Return rows of the synthetic log with the columns of their true probabilities."""
    dataset = build(
        compose([f"dataset.rows={rows}", f"dataset.seed={seed}", *overrides])["dataset"], Dataset, "dataset"
    )
    return dataset.generate(0, rows)  # type: ignore[attr-defined]  # the dataset is synthetic


def study(
    description: str | None, grid: Sequence[float], baseline: str, measure: Callable[[float, int, list[str]], Found]
) -> None:
    """Run a study from the command line, and print a table for every point of its grid.

    Args:
        description: What `--help` says.
        grid: The strengths of what is planted.
        baseline: The arm that the others are compared with, seed by seed, in the first measure.
        measure: Returns what one seed at one strength finds, from the overrides given.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--grid", type=float, nargs="+", default=list(grid))
    parser.add_argument("--overrides", nargs="*", default=[], help="of every run, such as trainer.epochs=4")
    options = parser.parse_args()
    clock = time.perf_counter()
    for strength in options.grid:
        found: Found = defaultdict(lambda: defaultdict(list))
        for seed in range(options.seeds):
            for arm, measures in measure(strength, seed, options.overrides).items():
                for name, values in measures.items():
                    found[arm][name] += values
        print(f"\n{strength:g}\n{table(found, baseline)}", flush=True)
    print(f"\n{options.seeds} seeds, {time.perf_counter() - clock:.0f} s")


def table(found: Found, baseline: str) -> str:
    """Return a Markdown table: a row per arm, the first measure also as a paired difference from the baseline."""
    first, *others = found[baseline]
    lines = [f"| | {first} | less {baseline} | {' | '.join(others)} |", "|---" * (3 + len(others)) + "|"]
    for arm, measures in found.items():
        gain = ""
        if arm != baseline and first in measures:
            mean, width = interval(np.subtract(measures[first], found[baseline][first]).tolist())
            gain = f"{mean:+.4f} ± {width:.4f}"
        cells = ["{:.3f} ± {:.3f}".format(*interval(measures[name])) if name in measures else "" for name in others]
        lines.append(f"| {arm} | {np.mean(measures[first]):.4f} | {gain} | {' | '.join(cells)} |")
    return "\n".join(lines)
