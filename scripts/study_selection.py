"""Planted selection: which funnel ranks and calibrates a conversion on all exposures, when clicks are a biased sample?

Every arm predicts the like after a click, of the same towers on the same batches, per seed (of data and training) and
strength of selection (the correlation of what makes a click and what makes a like after one):
  clicks alone                    the like's tower by itself, its loss on clicked exposures
  esmm, escm2_ips, escm2_dr, dcmt two or more towers on shared embeddings, their losses on all exposures
All are held against the true probability of a like after a click on all validation exposures: the AUC that labels drawn
from it have in expectation, and the mean prediction over the mean truth.

    python scripts/study_selection.py [--seeds 3] [--bias 0 0.9] [override ...]
"""

from __future__ import annotations

import argparse
import statistics
import time

from study_esmm import ARMS, expected_auc, interval, truth

from funrec import run_experiment
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

FUNNELS = ("esmm", "escm2_ips", "escm2_dr", "dcmt")
CLICKS = "clicks alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bias", type=float, nargs="+", default=[0.0, 0.9])
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = time.perf_counter()
    column = ARMS["esmm"][1]
    arms = {CLICKS: ARMS[CLICKS], **{name: ([f"model/funnel={name}"], column) for name in FUNNELS}}
    for bias in options.bias:
        ranked: dict[str, list[float]] = {arm: [] for arm in ("oracle", *arms)}
        ratios: dict[str, list[float]] = {arm: [] for arm in arms}
        for seed in range(options.seeds):
            common = ["experiment=esmm_study", f"seed={seed}", f"dataset.seed={seed}", f"dataset.selection_bias={bias}"]
            common += options.overrides
            _, probability = truth(common)
            ranked["oracle"].append(expected_auc(probability, probability))
            for arm, (overrides, head) in arms.items():
                scores = read_predictions(run_experiment(None, *common, *overrides).path, [head])[head]
                ranked[arm].append(expected_auc(probability, scores))
                ratios[arm].append(float(sigmoid(scores).mean() / probability.mean()))
        print(f"\nselection {bias:g}     AUC     less clicks alone (95%)  predicted/true")
        for arm, values in ranked.items():
            line = f"{arm:14} {statistics.mean(values):.4f}"
            if arm in FUNNELS:
                gain, width = interval([one - other for one, other in zip(values, ranked[CLICKS], strict=True)])
                line += f"  {gain:+.4f} +- {width:.4f}"
            print(f"{line:42} {statistics.mean(ratios[arm]):.3f}" if arm in ratios else line, flush=True)
    print(f"\n{options.seeds} seeds, {time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
