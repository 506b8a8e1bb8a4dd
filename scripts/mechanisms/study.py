"""What a study of planted mechanisms is, and how one is run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import t

from funrec import run_experiment

#: A small network trained long enough, for variants that differ in their experts.
SMALL_NETWORK = (
    "model/wide=none",
    "model.tower_units=[8]",
    "optimizer.learning_rate=0.005",
    "trainer.monitor=null",
    "model.tower_dropout=0",
    "model.embedding_l2=0.1",
    "trainer.epochs=12",
    "trainer.batch_size=256",
)


@dataclass(frozen=True)
class Study:
    """Variants of one model on data whose truth is known.

    Attributes:
        name: For `--only`, and the table's heading.
        make: From a seed to the rows.
        baseline: Label of the variant that the others' gains are taken over.
        variants: By label: the model and its overrides.
        settings: Overrides that all variants have in common.
        metric: The metric to compare.
    """

    name: str
    make: Callable[[int], pl.DataFrame]
    baseline: str
    variants: Mapping[str, tuple[str, Sequence[str]]]
    settings: Sequence[str]
    metric: str = "auc_macro"


def run(study: Study, seeds: int, only: Sequence[str] = ()) -> list[list[str]]:
    """Return the rows of a study's table: variant, metric, gain over the baseline with its 95% interval (Student's t).

    Gains are paired: a seed makes the data and starts the training, of all variants alike.
    """
    chosen = {name: part for name, part in study.variants.items() if not only or name in (study.baseline, *only)}
    values: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # for the runs and the prepared data
        for seed in range(seeds):
            data = study.make(seed)
            for name, (model, overrides) in chosen.items():
                changes = [*study.settings, f"seed={seed}", *overrides]
                values[name].append(run_experiment(model, *changes, data=data).metrics[study.metric])
                print(study.name, seed, name, f"{values[name][-1]:.4f}", flush=True)
    return [[name, f"{np.mean(found):.4f}", gain(found, values[study.baseline])] for name, found in values.items()]


def gain(values: Sequence[float], baseline: Sequence[float]) -> str:
    differences = np.subtract(values, baseline)
    if len(differences) < 2 or not differences.any():
        return ""
    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return f"{differences.mean():+.4f} ± {half:.4f}"
