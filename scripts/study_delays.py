"""Planted delays: which loss ranks and calibrates conversions, when training ends before all of them are seen?

Conversions of the synthetic log come after an exponential delay, whose mean is so many times the span of the training
rows. A conversion is one that comes within that span. Per seed (of data and training) and mean delay:
  naive        log loss, what is not seen when training ends is a 0
  mature       log loss on the older half of the training rows, of which more is seen
  likelihood   loss delayed_feedback
  importance   the same with the weights of the fake-negative weighted loss
  oracle       log loss on all conversions, as only the future knows them
Then again with delays that are, by user, two times as long as the mean or half as long: one law for all rows is wrong.
All are held against the true probability of a conversion on the validation rows: the AUC that labels drawn from it have
in expectation, the mean prediction over the mean truth, and the error of calibration over tenths of the predictions.

    python scripts/study_delays.py [--seeds 10] [--grid 0.1 0.3 1] [--overrides ...]
"""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from planted import Found, generate, measure_conversion, study
from study_esmm import expected_auc

from funrec import run_experiment
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

ROWS, SPAN, VALID_FROM = 80_000, 100.0, 80.0
FEATURES = ("user_id", "video_id", "author_id", "tag", "tab")
POPULATION = [
    *("dataset.users=500", "dataset.videos=300", "dataset.click_rate=0.2", "dataset.long_view_rate=0.1"),
    *("dataset.like_rate=0.02", "dataset.signal_strength=1"),
]
SETTINGS = [
    *("dataset.split.by=time", f"dataset.split.valid_from={VALID_FROM}", "dataset.time=time", "dataset.group=user_id"),
    *("+dataset.features={" + ", ".join(f"{name}: {{}}" for name in FEATURES) + "}", "trainer.epochs=2"),
    *("trainer.monitor=null", "optimizer.learning_rate=0.001", "model.embedding_l2=0"),
]
SEEN = f'"buy = 1 AND (time >= {VALID_FROM} OR time + delay < {VALID_FROM})"'
ARMS = {
    "naive": f"label: {SEEN}",
    "mature": f'label: {SEEN}, where: "time < {VALID_FROM / 2} OR time >= {VALID_FROM}"',
    "likelihood": "label: buy, observed_after: delay",
    "importance": "label: buy, observed_after: delay, loss: {name: delayed_feedback, weighting: importance}",
    "oracle": "label: buy",
}


def log_with_delays(mean: float, seed: int, by_user: bool) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the log, and every row's true probability of a conversion within the span of training."""
    draw = np.random.default_rng([seed, 7])
    rows = generate(ROWS, seed, *POPULATION)
    means = np.full(ROWS, mean * VALID_FROM)
    if by_user:
        means *= np.where(draw.random(500) < 0.5, 0.5, 2.0)[rows["user_id"].to_numpy() % 500]
    time, delay = np.sort(draw.uniform(0, SPAN, ROWS)), draw.exponential(means)
    buys = (rows["is_click"].to_numpy() == 1) & (delay <= VALID_FROM)
    log = rows.select(FEATURES).with_columns(
        time=pl.Series(time),
        buy=pl.Series(buys.astype(np.int8)),
        delay=pl.Series(np.where(buys, delay, np.nan)),
    )
    return log, rows["p_is_click"].to_numpy() * -np.expm1(-VALID_FROM / means)


def measure(strength: float, seed: int, overrides: list[str], by_user: bool) -> Found:
    log, probability = log_with_delays(strength, seed, by_user)
    probability = probability[log["time"].to_numpy() >= VALID_FROM]
    found: Found = {"truth": {"AUC": [expected_auc(probability, probability)]}}
    for arm, task in ARMS.items():
        run = run_experiment(
            "shared_bottom", f"seed={seed}", *SETTINGS, f"+dataset.tasks.buy={{{task}}}", *overrides, data=log
        )
        predicted = sigmoid(read_predictions(run.path, ["score_buy"])["score_buy"])
        found[arm] = measure_conversion(probability, predicted)
    return found


if __name__ == "__main__":
    print("One law of delays")
    study(__doc__, (0.1, 0.3, 1.0), "naive", partial(measure, by_user=False))
    print("\nA law for either kind of users")
    study(__doc__, (0.3,), "naive", partial(measure, by_user=True))
