"""Do the intervals of IPS, SNIPS and DR cover a policy's true value 95% of the time? 2,000 simulated logs of each kind.

A simulator knows the chance of a click and of a like after it for every user and item. A logging policy chooses items,
and the policy to evaluate is a softmax over a fused score of two heads that know those chances up to noise. The reward
is a like. Contexts are drawn from a finite set, so that the true value is a sum. `worth` is the number of choices of
equal weight that would be as sure (Kish, 1965).

    python scripts/study_off_policy.py
    python scripts/study_off_policy.py --simulations 200 --rows 500
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from funrec.metrics.base import sigmoid
from funrec.metrics.off_policy import Logged, policy_values, softmax_policy
from funrec.runs.formula import parse_formula

CONTEXTS, ITEMS = 500, 20
FUSED = parse_formula("p_click^0.5 * p_like", ["p_click", "p_like"])
#: How the logging policy chooses: its temperature over the opposite of a head, mixed with even chances.
LOGGING = {"even": (1.0, 1.0), "of its own": (1.0, 0.3), "against the policy": (0.7, 0.15)}

Array = NDArray[np.float64]


def simulate(kind: str, simulations: int, rows: int, seed: int) -> list[list[str]]:
    """Return a table row per estimator: how often it covers the truth, its bias and the mean width of its interval."""
    draw = np.random.default_rng(seed)
    click = draw.normal(-0.5, 1, (CONTEXTS, ITEMS))
    like = draw.normal(-1, 1, (CONTEXTS, ITEMS)) + 0.5 * click
    truth = sigmoid(click) * sigmoid(like)
    heads = {
        name: sigmoid(logits + draw.normal(0, 0.5, logits.shape)) for name, logits in (("click", click), ("like", like))
    }
    target = softmax_policy(FUSED.value({f"p_{name}": values for name, values in heads.items()}), 0.7)
    temperature, floor = LOGGING[kind]
    sign = -1 if kind == "against the policy" else 1
    logging = floor / ITEMS + (1 - floor) * softmax_policy(
        sign * heads["click"] + draw.normal(0, 0.2, click.shape), temperature
    )
    models = {"": heads["click"] * heads["like"], " of a constant model": np.full(truth.shape, truth.mean())}
    value = float((target * truth).sum(axis=1).mean())
    steps = logging.cumsum(axis=1)
    covered: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    widths: dict[str, list[float]] = {}
    worth: list[float] = []
    for _ in range(simulations):
        contexts = draw.integers(0, CONTEXTS, rows)
        chosen = np.minimum((draw.random(rows)[:, None] > steps[contexts]).sum(axis=1), ITEMS - 1)
        rewards = (draw.random(rows) < truth[contexts, chosen]).astype(np.float64)
        for name, model in models.items():
            logged = Logged(
                rewards,
                logging[contexts, chosen],
                target[contexts, chosen],
                model[contexts, chosen],
                (target[contexts] * model[contexts]).sum(axis=1),
            )
            worth.append(logged.effective_rows)
            for estimator, found in policy_values(logged).items():
                if estimator != "logged" and (estimator == "dr" or not name):
                    key = estimator.upper() + name
                    covered.setdefault(key, []).append(found.low <= value <= found.high)
                    errors.setdefault(key, []).append(found.value - value)
                    widths.setdefault(key, []).append(found.high - found.low)
    return [
        [
            kind,
            f"{rows:,}",
            f"{np.mean(worth):,.0f}",
            key,
            f"{np.mean(covered[key]):.1%}",
            f"{np.mean(errors[key]):+.4f}",
            f"{np.mean(widths[key]):.4f}",
            f"{value:.4f}",
        ]
        for key in covered
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="*", default=[500, 5000], help="logged choices of a simulation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [
        line
        for kind in LOGGING
        for size in options.rows
        for line in simulate(kind, options.simulations, size, options.seed)
    ]
    headers = ["logging policy", "choices", "worth", "estimator", "covered", "bias", "width", "truth"]
    print(tabulate(rows, headers, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
