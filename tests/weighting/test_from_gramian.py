"""The schemes that read the Gramian and have no independent reference: brute force, fixed points and special cases."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize

from funrec.schema import Task
from funrec.weighting.base import Statistics
from funrec.weighting.cagrad import CAGrad
from funrec.weighting.db_mtl import DBMTL
from funrec.weighting.gradnorm import GradNorm
from funrec.weighting.gradvac import GradVac
from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.imtl_g import IMTLG
from funrec.weighting.mgda import MGDA
from funrec.weighting.nash_mtl import NashMTL
from funrec.weighting.pareto import Pareto
from funrec.weighting.pcgrad import PCGrad

KEY = tf.constant([3, 5])


def draw(seed: int, tasks: int = 3) -> np.ndarray:
    gradients = np.random.default_rng(seed).normal(size=(tasks, 6)) - 0.2
    return gradients @ gradients.T


def solve(weighting: GramianWeighting, gramian: np.ndarray) -> np.ndarray:
    tasks = len(gramian)
    weighting.configure([Task(f"task_{i}") for i in range(tasks)])
    return weighting.solve(tf.constant(gramian), tf.range(tasks), KEY).numpy()


@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_pareto_is_the_best_of_the_weights_above_the_bounds(tasks: int) -> None:
    bounds = np.array([0.3, 0.05, 0.2, 0.1])[:tasks]
    for seed in range(15):
        gramian = draw(seed, tasks)
        found = solve(Pareto({f"task_{i}": bound for i, bound in enumerate(bounds)}), gramian)
        assert found.sum() == pytest.approx(1) and (found >= bounds - 1e-12).all()
        reference = minimize(
            lambda w, g=gramian: w @ g @ w,
            bounds + (1 - bounds.sum()) / tasks,
            jac=lambda w, g=gramian: 2 * g @ w,
            bounds=[(bound, 1) for bound in bounds],
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert found @ gramian @ found <= reference.fun + 1e-9
        np.testing.assert_allclose(gramian @ found, gramian @ reference.x, atol=1e-5 * np.trace(gramian))


def test_pareto_with_bounds_that_leave_nothing_is_the_bounds() -> None:
    np.testing.assert_allclose(solve(Pareto({"task_0": 0.5, "task_1": 0.2, "task_2": 0.3}), draw(0)), [0.5, 0.2, 0.3])


def test_pareto_without_bounds_is_mgda() -> None:
    for seed in range(5):
        np.testing.assert_allclose(solve(Pareto(0.0), draw(seed)), solve(MGDA(), draw(seed)), atol=1e-9)


def test_mgda_takes_a_gradient_that_is_shortest_and_agrees_with_all_others() -> None:
    gramian = np.array([[1.0, 2.0], [2.0, 9.0]])
    np.testing.assert_allclose(solve(MGDA(), gramian), [1, 0], atol=1e-9)
    np.testing.assert_allclose(solve(MGDA(), np.diag([1.0, 4.0])), [0.8, 0.2], atol=1e-9)


def test_imtl_g_has_equal_projections_on_all_unit_gradients() -> None:
    for seed in range(10):
        gramian = draw(seed, 4)
        weights = solve(IMTLG(), gramian)
        projections = gramian @ weights / np.sqrt(np.diag(gramian))
        np.testing.assert_allclose(projections, projections[0], rtol=1e-6)
        assert weights.sum() == pytest.approx(1)


def test_cagrad_keeps_to_its_ball_and_serves_the_worst_task_best() -> None:
    for seed in range(15):
        gramian, c = draw(seed, 4), 0.6
        even = np.full(4, 0.25)
        weights = solve(CAGrad(c), gramian)
        norm = np.sqrt(even @ gramian @ even)
        away = weights - even
        assert np.sqrt(away @ gramian @ away) == pytest.approx(c * norm, rel=1e-6)
        worst = (gramian @ weights).min()
        others = np.random.default_rng(1).normal(size=(4000, 4))
        others *= (c * norm / np.sqrt(np.einsum("ni,ij,nj->n", others, gramian, others)))[:, None]
        assert worst >= (gramian @ (even + others).T).min(0).max() - 1e-9
    np.testing.assert_allclose(solve(CAGrad(0.0), draw(0)), 1 / 3)


def test_nash_mtl_bargains_among_tasks_with_a_gradient_and_not_where_gradients_cancel() -> None:
    gramian = np.diag([4.0, 0.0, 1.0])
    weights = solve(NashMTL(), gramian)
    assert weights[1] == pytest.approx(1 / 3) and weights[2] == pytest.approx(2 * weights[0])
    assert weights @ gramian @ weights == pytest.approx(1)
    assert np.isnan(solve(NashMTL(), np.array([[1.0, -1.0], [-1.0, 1.0]]))).all()


def test_a_step_without_a_solution_has_even_weights_and_counts() -> None:
    weighting = NashMTL()
    weighting.configure([Task("a"), Task("b")])
    gramian = tf.constant([[1.0, -1.0], [-1.0, 1.0]])
    weights, state = weighting.weights(Statistics(tf.ones(2), KEY, gramian), weighting.initial_state())
    assert weights.numpy().tolist() == [0.5, 0.5] and int(state["fallbacks"]) == 1
    weights, state = weighting.weights(Statistics(tf.ones(2), KEY, tf.eye(2)), state)
    assert int(state["fallbacks"]) == 1


def test_pcgrad_of_two_tasks_is_the_papers_example_and_the_plain_sum_without_conflict() -> None:
    np.testing.assert_allclose(solve(PCGrad(), np.array([[1.0, -0.5], [-0.5, 2.0]])), [1.5, 1.25])
    np.testing.assert_allclose(solve(PCGrad(), np.array([[1.0, 0.5], [0.5, 2.0]])), [1, 1])


def test_pcgrads_order_changes_with_the_key() -> None:
    gramian = np.array([[1.0, -0.6, -0.5], [-0.6, 1.0, -0.2], [-0.5, -0.2, 1.0]])
    weighting = PCGrad()
    weighting.configure([Task(name) for name in "abc"])
    known, tasks = tf.constant(gramian), tf.range(3)
    drawn = {tuple(np.round(weighting.solve(known, tasks, tf.constant([0, key])), 6)) for key in range(20)}
    assert len(drawn) > 1


def test_gradvac_turns_a_gradient_until_its_cosine_is_the_target() -> None:
    weighting = GradVac(beta=0.0)
    weighting.configure([Task("a"), Task("b")])
    gramian = np.array([[1.0, 0.2], [0.2, 4.0]])
    state = {**weighting.initial_state(), "targets": tf.constant([[0.0, 0.5], [-1.0, 0.0]])}
    weights, _ = weighting.weights(Statistics(tf.ones(2), KEY, tf.constant(gramian, tf.float32)), state)
    changed = np.array([1.0, weights.numpy()[1] - 1])  # the first task's gradient; the second's stays as it is
    cosine = (gramian @ changed)[1] / np.sqrt(changed @ gramian @ changed * 4.0)
    assert cosine == pytest.approx(0.5, rel=1e-4)


def test_gradnorm_brings_norms_together_and_keeps_the_weights_sum() -> None:
    weighting = GradNorm(alpha=0.0, learning_rate=0.02)
    weighting.configure([Task(name) for name in "abc"])
    state = weighting.initial_state()
    norms = np.array([0.5, 1.0, 3.0], np.float32)
    first, state = weighting.weights(Statistics(tf.ones(3), KEY, tf.constant(np.diag(norms**2))), state)
    assert first.numpy().tolist() == [1, 1, 1]
    for _ in range(150):
        weights, state = weighting.weights(Statistics(tf.ones(3), KEY, tf.constant(np.diag(norms**2))), state)
        assert weights.numpy().sum() == pytest.approx(3, rel=1e-5)
    scaled = weights.numpy() * norms
    assert scaled.max() / scaled.min() < 1.1


def test_gradnorm_moves_in_its_second_step_towards_the_task_that_trains_slowly() -> None:
    weighting = GradNorm(alpha=1.0)
    weighting.configure([Task("fast"), Task("slow")])
    _, state = weighting.weights(Statistics(tf.constant([4.0, 1.0]), KEY, tf.eye(2)), weighting.initial_state())
    _, state = weighting.weights(Statistics(tf.constant([1.0, 0.9]), KEY, tf.eye(2)), state)
    weights, _ = weighting.weights(Statistics(tf.constant([1.0, 0.9]), KEY, tf.eye(2)), state)
    assert weights.numpy()[1] > 1 > weights.numpy()[0]


def test_db_mtl_brings_the_gradients_of_the_log_losses_to_the_largest_norm() -> None:
    weighting = DBMTL(decay=0.0)
    weighting.configure([Task("a"), Task("b")])
    losses, norms = np.array([0.5, 2.0]), np.array([1.0, 6.0])
    known = Statistics(tf.constant(losses, tf.float32), KEY, tf.constant(np.diag(norms**2), tf.float32))
    weights, state = weighting.weights(known, weighting.initial_state())
    np.testing.assert_allclose(weights * norms, (norms / losses).max(), rtol=1e-5)
    own = weighting.own_weights(weights, tf.constant(losses, tf.float32))
    np.testing.assert_allclose(own, 1 / losses, rtol=1e-6)
    assert (state["norm_counts"].numpy() == 1).all()
