"""How long does `funrec fuse` search? 200 formulas of one kind over 1,000,000 rows of 50,000 users and three heads.

python scripts/bench_fusion.py
python scripts/bench_fusion.py --rows 100000 --kinds additive,multiplicative,linear
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from funrec.fusion.objective import Objective
from funrec.fusion.rows import Part
from funrec.fusion.search import search
from funrec.metrics import build_metrics
from funrec.metrics.base import sigmoid
from funrec.schema import Task

RATES = {"is_click": 0.4, "long_view": 0.25, "is_like": 0.02}


def draw_rows(rows: int, users: int) -> Part:
    """Return rows of users, labels at the rates above, and scores that know something of them."""
    random = np.random.default_rng(0)
    labels, columns = {}, {}
    for task, rate in RATES.items():
        logits = np.log(rate / (1 - rate)) + random.standard_normal(rows)
        labels[task] = (random.random(rows) < sigmoid(logits)).astype(np.float32)
        columns |= {f"p_{task}": sigmoid(logits), f"logit_{task}": logits}
    return Part(random.integers(0, users, rows), labels, "generated rows", columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kinds", default="additive")
    options = parser.parse_args()
    part, tasks = draw_rows(options.rows, options.users), [Task(name, name) for name in RATES]
    objective = Objective("gauc_is_click + gauc_long_view + 2*gauc_is_like", tasks, build_metrics({}))
    start, cpu = time.perf_counter(), time.process_time()
    found = search(objective, part, dict.fromkeys(RATES, "p"), options.kinds.split(","), options.trials, seed=0)
    seconds, spent = time.perf_counter() - start, time.process_time() - cpu
    print(f"{len(found)} formulas, {options.rows:,} rows, 3 heads: {seconds:.1f} s ({spent:.1f} s of processor time)")


if __name__ == "__main__":
    main()
