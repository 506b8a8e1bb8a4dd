"""What a weighting refuses, each in one line."""

from __future__ import annotations

import pytest
from weightings import make

from funrec.schema import Task
from funrec.utils.errors import InputError

TASKS = (Task("is_click"), Task("is_like"))
LINES = {
    "weighting.weights.is_lik: no such task. Did you mean is_like?": ("fixed", "+weighting.weights.is_lik=2"),
    "weighting.weights.is_like should be a number of at least 0. Received: -1.": (
        "fixed",
        "+weighting.weights.is_like=-1",
    ),
    "weight should be positive for at least one task": ("fixed", "+weighting.weights={is_click: 0, is_like: 0}"),
    "weighting.lower_bounds should sum to at most 1. Received: 1.2, over 2 tasks.": (
        "pareto",
        "weighting.lower_bounds=0.6",
    ),
    "weighting.lower_bounds.is_lke: no such task. Did you mean is_like?": (
        "pareto",
        "weighting.lower_bounds={is_lke: 0.6}",
    ),
    "weighting.lower_bounds should be a number of at least 0, or one by task. Received: -0.1.": (
        "pareto",
        "weighting.lower_bounds=-0.1",
    ),
    "weighting.alpha should be a number of at least 0. Received: -1.": ("gradnorm", "weighting.alpha=-1"),
    "weighting.learning_rate should be a positive number. Received: 0.": ("gradnorm", "weighting.learning_rate=0"),
    "weighting.temperature should be a positive number. Received: 0.": ("dwa", "weighting.temperature=0"),
    "weighting.temperature should be a positive number. Received: -0.1.": ("stch", "weighting.temperature=-0.1"),
    "weighting.c should be at least 0 and below 1. Received: 1.5.": ("cagrad", "weighting.c=1.5"),
    "weighting.beta should be at least 0 and below 1. Received: 2.": ("gradvac", "weighting.beta=2"),
    "weighting.decay should be at least 0 and below 1. Received: 1.": ("db_mtl", "weighting.decay=1"),
    "weighting.decay should be a number of at least 0. Received: -1.": ("famo", "weighting.decay=-1"),
    "weighting.max_norm should be a number of at least 0. Received: -1.": ("nash_mtl", "weighting.max_norm=-1"),
    "weighting.shared should be one of representation, last_shared_layer, all_shared. Received: all.": (
        "mgda",
        "weighting.shared=all",
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_value_out_of_range_is_one_line(line: str) -> None:
    name, override = LINES[line]
    with pytest.raises(InputError) as refused:
        make(name, TASKS, override)
    assert line in str(refused.value) and "\n" not in str(refused.value)


def test_tasks_whose_weights_are_all_0_are_refused() -> None:
    with pytest.raises(InputError, match="All are 0"):
        make("fixed", [Task("is_click", weight=0.0), Task("is_like", weight=0.0)])


@pytest.mark.parametrize("name", ["mgda", "pareto", "cagrad", "upgrad"])
def test_more_tasks_than_sets_can_be_tried_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"weighting={name} tries every set of tasks and takes at most 10"):
        make(name, [Task(f"task_{i}") for i in range(11)])
