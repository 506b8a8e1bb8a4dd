"""Independent heads: each task's probability is its own tower's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from funrec.models.funnels.independent import Independent, logit
from funrec.models.structure import Structure
from funrec.schema import Task

TASKS = (Task("click", "c"), Task("seconds", "s", kind="regression"), Task("like", "l", after="click"))
LOGITS = tf.constant([[-3.0, 0.5], [40.0, 41.0], [120.0, -120.0]])


@pytest.fixture
def funnel() -> Independent:
    funnel = Independent()
    funnel.configure(Structure(TASKS))
    return funnel


def test_there_is_a_tower_per_task_in_the_tasks_order(funnel: Independent) -> None:
    assert funnel.towers == ("click", "seconds", "like")


def test_probabilities_are_sigmoids_and_regression_has_none(funnel: Independent) -> None:
    heads = funnel.combine(LOGITS)
    assert list(heads) == ["click", "like"]
    np.testing.assert_allclose(np.exp(heads["click"].log_p), 1 / (1 + np.exp([3.0, -0.5])), rtol=1e-6)
    for place, name in ((0, "click"), (2, "like")):
        np.testing.assert_allclose(np.exp(heads[name].log_p) + np.exp(heads[name].log_not_p), [1, 1], rtol=1e-6)
        np.testing.assert_allclose(heads[name].logit, LOGITS[place], rtol=1e-6)


def test_a_nested_task_has_no_conditional_head(funnel: Independent) -> None:
    assert funnel.conditional(LOGITS) == {}


def test_a_logit_starts_at_the_base_rate_and_a_value_at_the_mean(funnel: Independent) -> None:
    start = funnel.initial_logits({"click": 0.2, "seconds": 7.0, "like": 0.5})
    assert start == pytest.approx([np.log(0.25), 7.0, 0.0])


def test_a_rate_of_0_or_1_still_has_a_finite_logit() -> None:
    assert logit(0.0) == pytest.approx(-np.log(1e6), rel=1e-5)
    assert logit(1.0) == pytest.approx(np.log(1e6), rel=1e-5)
