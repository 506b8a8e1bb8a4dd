"""Agreement with TorchJD on 200 Gramians; `scripts/make_torchjd_fixture.py` made its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from funrec.schema import Task
from funrec.weighting.aligned_mtl import AlignedMTL
from funrec.weighting.cagrad import CAGrad
from funrec.weighting.gradvac import vaccinate
from funrec.weighting.gramian import GramianWeighting
from funrec.weighting.imtl_g import IMTLG
from funrec.weighting.mgda import MGDA
from funrec.weighting.nash_mtl import NashMTL
from funrec.weighting.pcgrad import remove_conflicts
from funrec.weighting.upgrad import UPGrad

pytestmark = pytest.mark.slow

ANSWERS = dict(np.load(Path(__file__).with_name("torchjd.npz")))
CASES = range(len(ANSWERS["gramian"]))
KEY = tf.constant([0, 0])


def case(i: int) -> tuple[np.ndarray, int]:
    tasks = int(ANSWERS["tasks"][i])
    return ANSWERS["gramian"][i, :tasks, :tasks], tasks


def solve(weighting: GramianWeighting, gramian: np.ndarray) -> np.ndarray:
    tasks = len(gramian)
    weighting.configure([Task(f"task_{i}") for i in range(tasks)])
    return weighting.solve(tf.constant(gramian), tf.range(tasks), KEY).numpy()


def distance(gramian: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return how far apart two directions are, by their products with all gradients and their lengths.

    Weights are not unique where the Gramian is singular, so we compare `G w` and `w' G w`, each over its largest size.
    """
    norms = np.sqrt(np.diag(gramian))
    length = norms.max() * max(np.abs(theirs).max(), np.abs(ours).max())
    products = np.abs(gramian @ (ours - theirs)).max() / (norms.max() * length)
    return max(products, abs(ours @ gramian @ ours - theirs @ gramian @ theirs) / length**2)


def test_the_gramians_are_of_all_kinds_and_sizes() -> None:
    assert len(CASES) == 200
    assert set(ANSWERS["tasks"]) == {2, 3, 4, 5, 6}
    assert {"conflicting", "nearly_singular", "zero_gradient"} <= set(ANSWERS["kind"])
    assert sum((case(i)[0] < -1e-9).any() for i in CASES) > 100


@pytest.mark.parametrize(
    ("name", "weighting"), [("upgrad", UPGrad()), ("aligned_mtl", AlignedMTL()), ("imtl_g", IMTLG())]
)
def test_a_direction_is_torchjds(name: str, weighting: GramianWeighting) -> None:
    for i in CASES:
        gramian, tasks = case(i)
        ours = solve(weighting, gramian)
        assert distance(gramian, ours, ANSWERS[name][i, :tasks]) < 1e-5, (i, ANSWERS["kind"][i])


def test_cagrads_direction_is_torchjds() -> None:
    compared = 0
    for i in CASES:
        gramian, tasks = case(i)
        ours, theirs = solve(CAGrad(c=float(ANSWERS["cagrad_c"])), gramian), ANSWERS["cagrad"][i, :tasks]
        if theirs.any():
            compared += 1
        else:  # no direction helps all tasks: TorchJD stands still, the authors' code and ours take the mean gradient
            theirs = np.full(tasks, 1 / tasks)
        assert distance(gramian, ours, theirs) < 1e-5, i
    assert compared == 160  # all but those in which a task has no gradient


def test_pcgrads_direction_is_torchjds_in_the_same_order() -> None:
    for i in CASES[::2]:
        gramian, tasks = case(i)
        orders = tf.constant(ANSWERS["orders"][i, 0, :tasks, :tasks], tf.int32)
        ours = remove_conflicts(tf.constant(gramian), orders).numpy()
        np.testing.assert_allclose(ours, ANSWERS["pcgrad"][i, :tasks], rtol=1e-9, atol=1e-9)


def test_gradvacs_directions_are_torchjds_over_three_steps() -> None:
    for i in CASES[::4]:
        gramian, tasks = case(i)
        targets = tf.zeros((tasks, tasks), tf.float64)
        pairs = ~tf.eye(tasks, dtype=tf.bool)
        for turn in range(3):
            orders = tf.constant(ANSWERS["orders"][i, turn, :tasks, :tasks], tf.int32)
            beta = float(ANSWERS["gradvac_beta"])
            ours, targets = vaccinate(tf.constant(gramian), orders, targets, beta, pairs)
            assert distance(gramian, ours.numpy(), ANSWERS[f"gradvac_{turn}"][i, :tasks]) < 1e-5, (i, turn)


def test_mgda_is_optimal_and_torchjds_where_that_converged() -> None:
    """`w' G w - min(G w)` bounds the squared distance to the shortest vector, ours and theirs."""
    compared = 0
    for i in CASES:
        gramian, tasks = case(i)
        scale = np.diag(gramian).max()
        ours, theirs = solve(MGDA(), gramian), ANSWERS["mgda"][i, :tasks]
        assert ours.min() >= 0 and ours.sum() == pytest.approx(1)
        assert ours @ gramian @ ours - (gramian @ ours).min() < 1e-11 * scale
        if theirs @ gramian @ theirs - (gramian @ theirs).min() < 1e-11 * scale:
            compared += 1
            assert distance(gramian, ours, theirs) < 1e-5, i
    assert compared > 60


def test_nash_mtl_solves_its_equation_to_rounding_and_torchjd_to_its_own_tolerance() -> None:
    compared = 0
    for i in CASES[::3]:
        gramian, tasks = case(i)
        ours, theirs = solve(NashMTL(max_norm=0.0), gramian), ANSWERS["nash_mtl"][i, :tasks]
        has_say = np.diag(gramian) > 0
        scaled = gramian / np.linalg.norm(gramian)
        np.testing.assert_allclose((ours * (scaled @ ours))[has_say], 1, atol=1e-7)
        if not (np.isfinite(theirs).all() and has_say.all()):
            continue
        theirs = theirs * np.sqrt((ours @ gramian @ ours) / (theirs @ gramian @ theirs))
        residual = np.abs(theirs * (scaled @ theirs) - 1).max()
        if residual < 1e-2:
            compared += 1
            assert distance(gramian, ours, theirs) < residual + 1e-5
    assert compared > 20
