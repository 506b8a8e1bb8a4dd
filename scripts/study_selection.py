"""Planted selection: which funnel ranks and calibrates a conversion on all exposures, when clicks are a biased sample?

Every arm predicts the like after a click, of the same towers on the same batches, per seed (of data and training) and
strength of selection (the correlation of what makes a click and what makes a like after one):
  clicks alone                    the like's tower by itself, its loss on clicked exposures
  esmm, escm2_ips, escm2_dr, dcmt two or more towers on shared embeddings, their losses on all exposures
All are held against the true probability of a like after a click on all validation exposures: the AUC that labels drawn
from it have in expectation, the mean prediction over the mean truth, and the error of calibration over tenths of the
predictions, as a share of the mean. Users and videos have many rows each and likes are frequent, so that what is
seen is selection and not a lack of data.

    python scripts/study_selection.py [--seeds 10] [--grid 0 0.5 0.9] [--overrides ...]
"""

from __future__ import annotations

from planted import Found, measure_conversion, study
from study_esmm import ARMS, expected_auc, truth

from funrec import run_experiment
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

CLICKS = "clicks alone"
FUNNELS = ("esmm", "escm2_ips", "escm2_dr", "dcmt")
DENSE = [
    *("dataset.rows=40000", "dataset.users=300", "dataset.videos=200", "dataset.like_rate=0.1"),
    *("dataset.long_view_rate=0.2", "trainer.epochs=2"),
]


def measure(strength: float, seed: int, overrides: list[str]) -> Found:
    common = ["experiment=esmm_study", f"seed={seed}", f"dataset.seed={seed}", *DENSE]
    common += [f"dataset.selection_bias={strength}", *overrides]
    _, probability = truth(common)
    found: Found = {"truth": {"AUC": [expected_auc(probability, probability)]}}
    head = ARMS["esmm"][1]
    for arm, (chosen, column) in {
        CLICKS: ARMS[CLICKS],
        **{funnel: ([f"model/funnel={funnel}"], head) for funnel in FUNNELS},
    }.items():
        predicted = sigmoid(read_predictions(run_experiment(None, *common, *chosen).path, [column])[column])
        found[arm] = measure_conversion(probability, predicted)
    return found


if __name__ == "__main__":
    study(__doc__, (0.0, 0.5, 0.9), CLICKS, measure)
