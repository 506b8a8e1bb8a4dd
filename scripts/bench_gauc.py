"""How fast is GAUC? Two figures, each a ratio or a time within one run.

1. `funrec.metrics.group_auc` against a loop of scikit-learn's `roc_auc_score` over users, on the same rows
   (300,000 rows of 27,000 users by default: as many users as KuaiRand-Pure has), with the difference of the two values.
2. Seconds for many rows (10,000,000 rows of 1,000,000 users by default), and rows per second against those of the loop.

    python scripts/bench_gauc.py
    python scripts/bench_gauc.py --rows 1000000 --users 100000 --digits 2

Scores are drawn in float32, as models save them; `--dtype float64` takes the path of wider scores, `--digits` makes
ties. Each time is the best of `--repeats`; the loop of scikit-learn runs once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from funrec.metrics import group_auc

Rows = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.floating]]


def draw_rows(rows: int, users: int, dtype: str, digits: int | None, seed: int) -> Rows:
    """Return groups, labels and scores, `(rows,)` each: shuffled rows, a third positive, scores that know something."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal(rows, np.float32).astype(dtype)
    if dtype == "float64":
        scores += 1e-9 * random.random(rows)
    labels = (scores + 2 * random.standard_normal(rows, np.float32) > 1).astype(np.float32)
    return random.integers(0, users, rows, np.int32), labels, scores if digits is None else scores.round(digits)


def loop_of_scikit_learn(groups: NDArray, labels: NDArray, scores: NDArray) -> float:
    """Return the impression-weighted GAUC the plain way: one `roc_auc_score` per user with both labels."""
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    total = rows = 0.0
    for user in np.split(order, edges):
        if 0 < labels[user].sum() < user.size:
            total += user.size * roc_auc_score(labels[user], scores[user])
            rows += user.size
    return total / rows


def best_seconds(repeats: int, run: Callable[[], object]) -> float:
    """Return the shortest of several runs, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the second figure")
    parser.add_argument("--users", type=int, default=1_000_000, help="users of the second figure")
    parser.add_argument("--loop-rows", type=int, default=300_000, help="rows of the comparison; 0 skips it")
    parser.add_argument("--loop-users", type=int, default=27_000, help="users of the comparison")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="type of the scores")
    parser.add_argument("--digits", type=int, help="round scores to so many digits, for ties")
    parser.add_argument("--repeats", type=int, default=3, help="times to run group_auc")
    parser.add_argument("--seed", type=int, default=0, help="seed of the rows")
    options = parser.parse_args()

    loop_speed = None
    if options.loop_rows:
        rows = draw_rows(options.loop_rows, options.loop_users, options.dtype, options.digits, options.seed)
        seconds = best_seconds(options.repeats, lambda: group_auc(*rows))
        start = time.perf_counter()
        expected = loop_of_scikit_learn(*rows)
        loop_seconds = time.perf_counter() - start
        loop_speed = options.loop_rows / loop_seconds
        print(f"{options.loop_rows:,} rows of {options.loop_users:,} users: {seconds:.4f} s")
        print(f"  {loop_seconds / seconds:,.0f} times a loop of scikit-learn, which takes {loop_seconds:.1f} s")
        print(f"  difference of the two values: {abs(group_auc(*rows).value - expected):.1e}")
    rows = draw_rows(options.rows, options.users, options.dtype, options.digits, options.seed)
    seconds = best_seconds(options.repeats, lambda: group_auc(*rows))
    print(f"{options.rows:,} rows of {options.users:,} users: {seconds:.2f} s")
    print(f"  {options.rows / seconds / 1e6:.1f} million rows a second")
    if loop_speed:
        print(f"  {options.rows / seconds / loop_speed:,.0f} times the rows a second of the loop above")


if __name__ == "__main__":
    main()
