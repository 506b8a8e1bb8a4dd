"""What another policy would have earned, estimated from logged choices and the chances with which they were made.

A row is one choice: its reward `r`, the logging policy's chance of it `p` (the propensity), and the evaluated policy's
chance of the same choice, `t`. With `w = t / p`:

    IPS    mean of w r                                         (Horvitz and Thompson, 1952)
    SNIPS  sum of w r / sum of w                               (Swaminathan and Joachims, NeurIPS 2015)
    DR     mean of sum_a t(a) q(a) + w (r - q)                 (Dudik et al., ICML 2011)

where `q` is a model's prediction of the reward, fitted on other rows. Standard errors are those of the means of
independent rows, for SNIPS by the delta method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from funrec.metrics.intervals import small_sample
from funrec.metrics.sorting import Array
from funrec.utils.errors import InputError

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Logged:
    """Logged choices, and what another policy and a model say of them.

    Attributes:
        rewards: What each choice earned, `(rows,)`.
        propensities: The logging policy's chance of the choice, above 0 and at most 1, `(rows,)`.
        target: The evaluated policy's chance of it, `(rows,)`.
        predicted: The model's prediction of its reward, `(rows,)`.
        expected: The model's mean prediction under the evaluated policy, `(rows,)`.
    """

    rewards: Array
    propensities: Array
    target: Array
    predicted: Array
    expected: Array

    def __post_init__(self) -> None:
        is_odd = ~((self.propensities > 0) & (self.propensities <= 1))
        if is_odd.any():
            place = int(np.argmax(is_odd))
            raise InputError(
                "A propensity should be above 0 and at most 1: a choice that could not be made says nothing. "
                f"Received: {self.propensities[place]:g} in row {place}. Leave such rows out."
            )

    @property
    def weights(self) -> Array:
        """How much likelier the evaluated policy makes each choice, `(rows,)`."""
        return self.target / self.propensities

    @property
    def effective_rows(self) -> float:
        """As many rows of equal weight would be as sure: `(sum w)^2 / sum w^2` (Kish, 1965)."""
        weights = self.weights
        return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))


@dataclass(frozen=True)
class PolicyValue:
    """A mean reward with the ends of its 95% interval."""

    value: float
    low: float
    high: float


def policy_values(logged: Logged) -> dict[str, PolicyValue]:
    """Return the mean reward of the logging policy (`logged`), and that of the other by `ips`, `snips` and `dr`."""
    weights, rewards = logged.weights, logged.rewards
    weighted = weights * rewards
    ratio = float(weighted.sum() / weights.sum()) if weights.any() else 0.0
    spread = (weighted - weights * ratio) / (weights.mean() or 1.0)
    robust = logged.expected + weights * (rewards - logged.predicted)
    return {
        "logged": _mean(rewards),
        "ips": _mean(weighted),
        "snips": _mean(ratio + spread),
        "dr": _mean(robust),
    }


def softmax_policy(scores: Array, temperature: float) -> Array:
    """Return the chance of each item, `(rows, items)`: `exp(score / temperature)`, normed, of scores in standard units.

    Args:
        scores: A score per row and item, `(rows, items)`.
        temperature: Near 0 the best item is nearly always chosen, and a large one chooses evenly.
    """
    scaled = scores / (temperature * (scores.std() or 1.0))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    chances: Array = powers / powers.sum(axis=1, keepdims=True)
    return chances


def _mean(values: Array) -> PolicyValue:
    value = float(values.mean())
    reach = NORMAL_95 * float(np.sqrt(((values - value) ** 2).sum())) / values.size * small_sample(values.size)
    return PolicyValue(value, value - reach, value + reach)
