"""Runs with all that a report draws, and what a page says about itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from runs import noisy, write_run

from funrec.runs import record

ROGUE = "<script>alert('x')</script>"


def history(epochs: int, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "epoch": epoch,
            **{
                f"{name}_{task}": float(random.random()) for name in ("auc", "gauc", "loss", "weight") for task in TASKS
            },
            "gradient_cosine_click_like": float(random.normal()),
        }
        for epoch in range(1, epochs + 1)
    ]


TASKS = ("click", "like")
GATES = [
    {
        "gate": "",
        "reader": task,
        "experts": ["expert_1", "expert_2"],
        "weight": [0.3, 0.7],
        "unused": [0.0, 0.0],
        "entropy": 0.9,
    }
    for task in TASKS
]
BINS = {"predicted": [0.1, 0.4, 0.8], "observed": [0.12, 0.35, 0.85], "rows": [100, 100, 100]}


def write_full_run(
    folder: Path, rows: dict[str, Any], seed: int, epochs: int = 4, noise: float = 1.0, **changes: Any
) -> Path:
    """Write a run with all that a report draws."""
    diagnosis = {
        "split": "valid",
        "tasks": list(TASKS),
        "auc": [[0.8, 0.6], [0.55, None]],
        "findings": [
            {"kind": "constant", "subjects": ["like"], "message": f"the head of {ROGUE} is constant. Check it."}
        ],
    }
    slices = [
        {
            "split": "valid",
            "slice": "tab",
            "value": f"{place} {ROGUE}",
            "rows": 50,
            "metrics": {"auc_click": 0.7, "auc_like": 0.6},
        }
        for place in range(12)
    ]
    fields = {
        "diagnosis": diagnosis,
        "slices": slices,
        "gates": GATES,
        "reliability": dict.fromkeys(TASKS, BINS),
        "versions": {"python": "3.11", "tensorflow": "2.21"},
    }
    run = write_run(folder, rows, noisy(rows, noise, seed), seed=seed, **{**fields, **changes})
    record.write_history(run, history(epochs, seed))
    return run


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def figures_of(page: Path, section: str, choice: int = 0) -> dict[str, dict[str, Any]]:
    return {figure["title"]: figure for figure in data_of(page)["figures"][section][choice]["figures"]}
