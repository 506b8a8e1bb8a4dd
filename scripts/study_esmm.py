"""ESMM's study on planted truth: does learning on all exposures rank what nobody clicked better?

Two arms with the same tower and the same batches, per seed (of data and of training):
  esmm              two towers on shared embeddings, losses of click and like on all exposures; its pCVR is scored
  clicks alone      the like's tower by itself, its loss on clicked exposures
Both rank the unclicked validation exposures, against the true probability of a like after a click: the AUC that labels
drawn from it have in expectation.

    python scripts/study_esmm.py [--seeds 5] [override ...]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from funrec import Run, run_experiment
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import cache_folder
from funrec.data.preparation.prepare import prepare
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

ARMS = {
    "esmm": ([], "score_is_like_given_is_click"),
    "clicks alone": (
        [
            "model/funnel=independent",
            "dataset.drop=[long_view,is_click]",
            "dataset.tasks.is_like.after=null",
            'dataset.tasks.is_like.where="is_click = 1"',
        ],
        "score_is_like",
    ),
}
#: 97.5% quantile of Student's t, by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def expected_auc(probabilities: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUC of `scores`, labels being 1 with their true probability: every pair counts `p_i (1 - p_j)`."""
    order = np.argsort(scores, kind="stable")
    scores, positive = scores[order], probabilities[order].astype(np.float64)
    negative = 1 - positive
    starts = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    positives, negatives = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positive.sum() * negative.sum()))


def truth(overrides: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each validation row was clicked, and its true probability of a like after a click."""
    dataset = build(compose(overrides)["dataset"], Dataset, "dataset")
    data = prepare(dataset, cache_folder())
    valid = data.splits["valid"]
    click, like = ([task.name for task in data.tasks].index(name) for name in ("is_click", "is_like"))
    return np.asarray(valid.labels[:, click]) == 1, valid.oracle[:, like] / valid.oracle[:, click]


def interval(differences: list[float]) -> tuple[float, float]:
    """Return mean and half width of the 95% interval of paired differences."""
    width = QUANTILES[len(differences) - 1] * statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = time.perf_counter()
    found: dict[str, list[float]] = {"oracle": [], **{arm: [] for arm in ARMS}}
    ratios: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        common = ["experiment=esmm_study", f"seed={seed}", f"dataset.seed={seed}", *options.overrides]
        clicked, probability = truth(common)
        unclicked = ~clicked
        found["oracle"].append(expected_auc(probability[unclicked], probability[unclicked]))
        for arm, (overrides, column) in ARMS.items():
            run: Run = run_experiment(None, *common, *overrides)
            scores = read_predictions(run.path, [column])[column]
            found[arm].append(expected_auc(probability[unclicked], scores[unclicked]))
            ratios[arm].append(float(sigmoid(scores[unclicked]).mean() / probability[unclicked].mean()))
        print(f"seed {seed}: " + ", ".join(f"{arm} {values[-1]:.4f}" for arm, values in found.items()), flush=True)
    print(f"\n{'':14}{'AUC, unclicked':>16}{'predicted/true':>16}")
    for arm, values in found.items():
        ratio = f"{statistics.mean(ratios[arm]):>16.3f}" if arm in ratios else ""
        print(f"{arm:14}{statistics.mean(values):>16.4f}{ratio}")
    mean, width = interval([a - b for a, b in zip(found["esmm"], found["clicks alone"], strict=True)])
    print(f"\nesmm - clicks alone: {mean:+.4f} +- {width:.4f} (95%, paired over {options.seeds} seeds)")
    print(f"{time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
