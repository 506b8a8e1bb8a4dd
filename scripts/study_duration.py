"""Planted duration bias: which loss of watch times finds what users are interested in, and not what is long?

Rows of the synthetic log with an interest that does not depend on the video's length, and watch times that do:
  log t = bias * (log length - mean) + 0.6 * interest + 0.8 * noise;  0 with a chance that falls with the interest
Per seed (of data and training) and bias, the same model learns `t` by six losses. On the validation rows, as rank
correlations with the true interest:
  within length   of a prediction's rank among predictions for videos of about its length (tenths)
  as predicted    of the prediction itself, which is what an order by predicted watch time would serve
Beside them XAUC and MAE of the watch time, the latter as a share of its mean.

    python scripts/study_duration.py [--seeds 10] [--grid 0 1] [--overrides ...]
"""

from __future__ import annotations

import numpy as np
import polars as pl
from planted import Found, generate, study
from scipy.special import expit, logit
from scipy.stats import rankdata, spearmanr

from funrec import run_experiment
from funrec.runs.record import read_predictions

ROWS, VIDEOS = 40_000, 200
FEATURES = ("user_id", "video_id", "author_id", "tag", "tab")
POPULATION = ["dataset.users=300", f"dataset.videos={VIDEOS}", "dataset.signal_strength=1"]
SETTINGS = [
    *("dataset.split.by=random", "dataset.split.valid=0.2", "dataset.group=user_id", "trainer.epochs=2"),
    *("trainer.monitor=null", "optimizer.learning_rate=0.001", "model.embedding_l2=0"),
    "+dataset.features={"
    + ", ".join(f"{name}: {{}}" for name in FEATURES)
    + ", duration: {kind: numeric, quantiles: 20}}",
]
LOSSES = ("mse", "d2q", "tpm", "cread", "weighted_logistic", "quantile")


def log_with_lengths(bias: float, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the log, and every row's true interest, which has a variance of 1."""
    draw = np.random.default_rng([seed, 11])
    rows = generate(ROWS, seed, *POPULATION)
    interest = logit(rows["p_is_click"].to_numpy().astype(np.float64))
    interest = (interest - interest.mean()) / interest.std()
    lengths = draw.normal(3.0, 1.0, VIDEOS)[rows["video_id"].to_numpy() % VIDEOS]
    log_time = 2.5 + bias * (lengths - 3.0) + 0.6 * interest + 0.8 * draw.normal(size=ROWS)
    watched = draw.random(ROWS) < expit(1.5 + interest)
    times = np.where(watched, np.exp(log_time), 0.0)
    return rows.select(FEATURES).with_columns(duration=pl.Series(np.exp(lengths)), watch=pl.Series(times)), interest


def measure(strength: float, seed: int, overrides: list[str]) -> Found:
    log, interest = log_with_lengths(strength, seed)
    lengths, times = log["duration"].to_numpy(), log["watch"].to_numpy()
    found: Found = {}
    for loss in LOSSES:
        task = f"+dataset.tasks.watch={{kind: duration, loss: {loss}}}"
        run = run_experiment("shared_bottom", f"seed={seed}", *SETTINGS, task, *overrides, data=log)
        predictions = read_predictions(run.path, ["row", "score_watch"])
        rows, predicted = predictions["row"], predictions["score_watch"]
        tenths = np.searchsorted(np.quantile(lengths, np.linspace(0.1, 0.9, 9)), lengths[rows])
        within = np.zeros(rows.size)
        for tenth in range(10):
            places = np.flatnonzero(tenths == tenth)
            within[places] = rankdata(predicted[places]) / places.size
        found[loss] = {
            "within length": [spearmanr(within, interest[rows]).statistic],
            "as predicted": [spearmanr(predicted, interest[rows]).statistic],
            "XAUC": [run.metrics["xauc_watch"]],
            "MAE / mean": [run.metrics["mae_watch"] / times[rows].mean()],
        }
    return found


if __name__ == "__main__":
    study(__doc__, (0.0, 1.0), "mse", measure)
