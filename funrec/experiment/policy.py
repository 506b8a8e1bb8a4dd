"""What a policy that follows a run's scores would earn, from logged choices with known propensities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from funrec.config.build import build
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import reading_errors
from funrec.experiment.prediction import Predictor
from funrec.metrics.off_policy import Logged, PolicyValue, policy_values, softmax_policy
from funrec.runs import record as records
from funrec.utils.errors import InputError, did_you_mean

FUSED = "score"


@dataclass(frozen=True)
class Estimated:
    """What a policy would earn on the rows of a split.

    Attributes:
        score: The column of scores that it follows.
        reward: The task whose label is the reward.
        split: Whose rows.
        rows, items: Numbers of logged choices, and of items to choose from.
        effective_rows: See `Logged.effective_rows`.
        values: By estimator.
    """

    score: str
    reward: str
    split: str
    rows: int
    items: int
    effective_rows: float
    values: dict[str, PolicyValue]


def estimate_policy(
    run: str | Path, reward: str | None = None, temperature: float = 1.0, split: str | None = None
) -> Estimated:
    """Estimate the mean reward of a policy that draws items by `softmax(score / temperature)`.

    The score is what `funrec fuse` left with the run, else the reward's own probability, which is also the model of DR.

    Args:
        run: The folder of a finished run whose dataset knows propensities and items (`dataset=obd`).
        reward: A binary task; the first by default.
        temperature: In standard deviations of the scores.
        split: Whose rows to take: by default `test` if there is one, else `valid`.

    Raises:
        InputError: If the dataset has no propensities, one of them is 0 or above 1, or there is no such task or split.
    """
    folder = Path(run)
    config = records.read(folder)["config"]
    if not temperature > 0:
        raise InputError(f"--temperature should be positive. Received: {temperature:g}.")
    dataset = build(config["dataset"], Dataset, "dataset")
    if dataset.propensity is None:
        raise InputError("A policy is estimated from logged propensities. This dataset has none; dataset=obd has.")
    predictor = Predictor(folder)
    binary = [task.name for task in predictor.inputs.tasks if task.is_binary]
    reward = reward or next(iter(binary), None)
    if reward not in binary:
        raise InputError(f"--reward should be a binary task. Received: {reward}.{did_you_mean(reward, binary)}")
    saved = records.read_predictions(folder)
    known = list(dict.fromkeys(saved["split"].tolist()))
    split = split or ("test" if "test" in known else "valid")
    if split not in known:
        raise InputError(f"--split should be one of {', '.join(known)}. Received: {split}.")
    picked = (saved["split"] == split) & ~np.isnan(saved[f"label_{reward}"])
    with TemporaryDirectory() as place, reading_errors(dataset.source_name):
        rows = dataset.scan([], Path(place))["all"].collect()[saved["row"][picked].astype(np.int64)]
    scores, rewards, items = _score_offers(predictor, dataset, rows, reward)
    chosen = np.searchsorted(items, rows[dataset.item].to_numpy())
    places = np.arange(rows.height)
    chances = softmax_policy(scores, temperature)
    logged = Logged(
        rewards=saved[f"label_{reward}"][picked].astype(np.float64),
        propensities=rows[dataset.propensity].to_numpy().astype(np.float64),
        target=chances[places, chosen],
        predicted=rewards[places, chosen],
        expected=(chances * rewards).sum(axis=1),
    )
    name = FUSED if FUSED in predictor.columns() else f"p_{reward}"
    return Estimated(name, reward, split, rows.height, items.size, logged.effective_rows, policy_values(logged))


def _score_offers(
    predictor: Predictor, dataset: Dataset, rows: pl.DataFrame, reward: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the policy's scores and the model's rewards of every item in every row, `(rows, items)`, and the items."""
    names = predictor.columns()
    probability = next((name for name in names if name == f"p_{reward}"), None)
    if probability is None:
        raise InputError(f"{reward} should have probabilities. Its loss only ranks: calibrate it (calibration=platt).")
    scores, rewards, items = [], [], []
    for item, offered in dataset.offers(rows):
        found = predictor.score_frame(offered)
        rewards.append(found[probability].to_numpy().astype(np.float64))
        scores.append(found[FUSED].to_numpy().astype(np.float64) if FUSED in names else rewards[-1])
        items.append(item)
    order = np.argsort(items)
    return np.stack(scores, axis=1)[:, order], np.stack(rewards, axis=1)[:, order], np.array(items)[order]
