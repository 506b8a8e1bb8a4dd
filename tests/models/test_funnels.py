"""ESMM's and ESM2's own mathematics: probabilities along a funnel, in log space."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.models.funnels.esm2 import ESM2
from funrec.models.funnels.esmm import ESMM
from funrec.models.funnels.log_space import chain, log_add, mixture
from funrec.models.structure import Structure
from funrec.schema import Task
from funrec.utils.errors import InputError

CLICK, LIKE, FOLLOW = Task("click"), Task("like", after="click"), Task("follow", after="click")
CHAIN = (CLICK, LIKE, Task("share", after="like"), Task("buy", after="share"))
GRID = (-60.0, -27.6, -9.0, -1.0, 0.0, 0.5, 8.0, 27.6, 60.0)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z.astype(np.float64)))


def configured(funnel: Funnel, *tasks: Task) -> Funnel:
    funnel.configure(Structure(tuple(tasks)))
    return funnel


def logits_of(towers: int, rows: int = 200, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=scale, size=(towers, rows)).astype(np.float32)


def probabilities(heads: dict[str, LogProbability]) -> dict[str, np.ndarray]:
    """Return `p` by head, having checked that both sides add up to one."""
    for head in heads.values():
        np.testing.assert_allclose(np.exp(head.log_p) + np.exp(head.log_not_p), 1.0, rtol=1e-5)
    return {name: np.exp(head.log_p.numpy().astype(np.float64)) for name, head in heads.items()}


def test_log_add_keeps_its_digits_and_halves_the_gradient_of_equals() -> None:
    a = tf.constant([0.0, -1000.0, -3.0, -np.inf])
    b = tf.constant([0.0, -1.0, -3.5, -2.0])
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        total = log_add(a, b)
    np.testing.assert_allclose(total, [math.log(2), -1.0, math.log(math.exp(-3) + math.exp(-3.5)), -2.0], rtol=1e-6)
    by_a, by_b = (gradient.numpy() for gradient in tape.gradient(total, [a, b]))
    np.testing.assert_allclose(by_a + by_b, 1.0, rtol=1e-6)
    assert by_a[0] == by_b[0] == 0.5


def exact(logit: float) -> Fraction:
    """Return the probability as a ratio, from which nothing is lost."""
    odds = Fraction(math.exp(float(np.float32(logit))))
    return odds / (1 + odds)


def log_of(p: Fraction) -> float:
    return math.log(p) if p < Fraction(1, 2) else math.log1p(-float(1 - p))


@pytest.mark.parametrize("first", GRID)
@pytest.mark.parametrize("second", GRID)
def test_both_sides_keep_their_digits_from_one_end_to_the_other(first: float, second: float) -> None:
    a, b = exact(first), exact(second)
    choice, if_true = from_logit(tf.constant(first)), from_logit(tf.constant(second))
    found = {
        a * b: chain(choice, if_true),
        a * b + (1 - a) * (1 - b): mixture(choice, if_true, from_logit(tf.constant(-second))),
    }
    for p, sides in found.items():
        assert float(sides.log_p) == pytest.approx(log_of(p), rel=1e-5, abs=1e-37)
        assert float(sides.log_not_p) == pytest.approx(log_of(1 - p), rel=1e-5, abs=1e-37)


@pytest.mark.parametrize("size", [0.0, 27.6, 60.0, 200.0])
def test_gradients_stay_shares_of_what_comes_in(size: float) -> None:
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4), np.float32).reshape(4, -1)
    logits = tf.constant(size * signs)
    for funnel in (configured(ESM2(), CLICK, LIKE, FOLLOW), configured(ESMM(), *CHAIN)):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            sides = [side for head in funnel.combine(logits).values() for side in head]
        for side in sides:
            gradient = tape.gradient(side, logits).numpy()
            assert np.isfinite(gradient).all()
            assert np.abs(gradient).max() <= 1 + 1e-5


def test_esmm_multiplies_along_a_chain_of_any_length() -> None:
    funnel = configured(ESMM(), *CHAIN)
    z = logits_of(4)
    found = probabilities(funnel.combine(tf.constant(z)))
    steps = sigmoid(z)
    for depth, task in enumerate(CHAIN):
        np.testing.assert_allclose(found[task.name], steps[: depth + 1].prod(axis=0), rtol=1e-4)
    heads = probabilities(funnel.conditional(tf.constant(z)))
    assert list(heads) == ["like_given_click", "share_given_like", "buy_given_share"]
    np.testing.assert_allclose(heads["buy_given_share"], steps[3], rtol=1e-5)


def test_esmm_lets_several_tasks_come_after_one_in_whatever_order_they_stand() -> None:
    z = logits_of(3)
    steps = sigmoid(z)
    found = probabilities(configured(ESMM(), LIKE, CLICK, FOLLOW).combine(tf.constant(z)))
    np.testing.assert_allclose(found["click"], steps[1], rtol=1e-5)
    np.testing.assert_allclose(found["like"], steps[0] * steps[1], rtol=1e-4)
    np.testing.assert_allclose(found["follow"], steps[2] * steps[1], rtol=1e-4)
    assert configured(ESMM(), LIKE, CLICK, FOLLOW).tower_parents() == (1, None, 1)


def test_esm2_probabilities_sum_over_both_paths() -> None:
    funnel = configured(ESM2(), CLICK, LIKE, FOLLOW)
    assert len(funnel.towers) == 4
    z = logits_of(4)
    y1, y2, y3, y4 = sigmoid(z)
    found = probabilities(funnel.combine(tf.constant(z)))
    np.testing.assert_allclose(found["click"], y1, rtol=1e-5)
    np.testing.assert_allclose(found["like"], y1 * y2, rtol=1e-4)
    np.testing.assert_allclose(found["follow"], y1 * (y2 * y3 + (1 - y2) * y4), rtol=1e-4)
    heads = probabilities(funnel.conditional(tf.constant(z)))
    np.testing.assert_allclose(heads["like_given_click"], y2, rtol=1e-5)
    np.testing.assert_allclose(heads["follow_given_click"], y2 * y3 + (1 - y2) * y4, rtol=1e-4)


def test_esm2s_losses_do_not_tell_the_two_paths_apart() -> None:
    y2, y3, y4 = 0.4, 0.5, 0.2
    other_y3 = 0.6
    other_y4 = (y2 * y3 + (1 - y2) * y4 - y2 * other_y3) / (1 - y2)  # the same mixture
    logit = {value: math.log(value / (1 - value)) for value in (0.3, y2, y3, y4, other_y3, other_y4)}
    funnel = configured(ESM2(), CLICK, LIKE, FOLLOW)
    pair = [[logit[0.3], logit[y2], logit[third], logit[fourth]] for third, fourth in ((y3, y4), (other_y3, other_y4))]
    heads = funnel.combine(tf.constant(pair, tf.float32).numpy().T)
    for head in heads.values():
        assert head.log_p.numpy()[0] == pytest.approx(head.log_p.numpy()[1], rel=1e-5)


@pytest.mark.parametrize(("funnel", "tasks"), [(ESMM, CHAIN), (ESM2, (CLICK, LIKE, FOLLOW))])
def test_every_head_starts_at_its_tasks_base_rate(funnel: type[Funnel], tasks: tuple[Task, ...]) -> None:
    rates = dict(zip([task.name for task in tasks], (0.4, 0.1, 0.02, 0.001), strict=False))
    ready = configured(funnel(), *tasks)
    start = tf.constant(ready.initial_logits(rates), tf.float32)[:, None]
    for name, p in probabilities(ready.combine(start)).items():
        assert p[0] == pytest.approx(rates[name], rel=1e-4)


@pytest.mark.parametrize(
    ("funnel", "tasks", "message"),
    [
        (ESM2, (CLICK, LIKE), r"three tasks, in order.*Received 2: click, like\..*esmm"),
        (ESM2, CHAIN, r"three tasks, in order.*Received 4: click, like, share, buy\..*dataset\.drop"),
        (
            ESM2,
            (LIKE, CLICK, FOLLOW),
            r"Received: like after click, click after none, follow after click\..*after=like",
        ),
        (ESM2, CHAIN[:3], r"Received: .*share after like\. Set .*dataset\.tasks\.share\.after=click"),
        (ESM2, (CLICK, LIKE, Task("seconds", kind="regression", after="click")), r"seconds\.kind should be binary"),
        (ESMM, (CLICK, Task("seconds", kind="regression", after="click")), r"seconds\.kind should be binary"),
        (ESMM, (CLICK, Task("like")), r"which task comes after which.*dataset\.tasks\.like\.after=click\.$"),
        (ESMM, (CLICK,), r"One task makes no funnel"),
    ],
)
def test_tasks_a_funnel_cannot_serve_are_refused_in_one_line(
    funnel: type[Funnel], tasks: tuple[Task, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        funnel().configure(Structure(tuple(tasks)))
    assert "\n" not in str(error.value)
