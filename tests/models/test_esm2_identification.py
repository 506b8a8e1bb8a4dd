"""ESM2 on planted truth: its three losses find y1, y2 and the mixture, on exposures that nobody clicked too."""

from __future__ import annotations

import numpy as np
import pytest

from funrec import run_experiment
from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.cache import cache_folder
from funrec.data.preparation.prepare import prepare
from funrec.metrics import auc
from funrec.metrics.base import sigmoid
from funrec.runs.record import read_predictions

pytestmark = pytest.mark.slow

OVERRIDES = (
    "dataset.drop=[long_view]",
    "+dataset.tasks.is_follow={label: is_follow, after: is_click}",
    "dataset.rows=120_000",
    "dataset.users=200",
    "dataset.videos=100",
    "dataset.like_rate=0.12",
    "dataset.follow_rate=0.08",
    "dataset.zipf_exponent=0.3",
    "trainer.epochs=3",
    "trainer.monitor=null",
    "trainer.batch_size=512",
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """True and found probabilities of the validation rows, by what they are of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("esm2"))
        run = run_experiment("esm2", *OVERRIDES)
        data = prepare(build(compose(["model=esm2", *OVERRIDES])["dataset"], Dataset, "dataset"), cache_folder())
        assert run.path.is_dir()
        scores = {
            name: sigmoid(values) for name, values in read_predictions(run.path).items() if name.startswith("score_")
        }
    places = {task.name: place for place, task in enumerate(data.tasks)}
    oracle = {name: np.asarray(data.splits["valid"].oracle[:, place]) for name, place in places.items()}
    truth = {
        "is_click": oracle["is_click"],
        "is_like_given_is_click": oracle["is_like"] / oracle["is_click"],
        "is_follow_given_is_click": oracle["is_follow"] / oracle["is_click"],
    }
    truth["clicked"] = np.asarray(data.splits["valid"].labels[:, places["is_click"]])
    return truth, {name.removeprefix("score_"): values for name, values in scores.items()}


@pytest.mark.parametrize("head", ["is_click", "is_like_given_is_click", "is_follow_given_is_click"])
@pytest.mark.parametrize("clicked", [0, 1])
def test_what_the_losses_identify_is_ranked_and_calibrated(planted: tuple, head: str, clicked: int) -> None:
    truth, found = planted
    rows = truth["clicked"] == clicked
    true, p = truth[head][rows].astype(np.float64), found[head][rows]
    labels = (np.random.default_rng(0).random(len(true)) < true).astype(np.float32)  # drawn on unclicked rows, too
    best, reached = auc(labels, true), auc(labels, p)
    assert reached - 0.5 > 0.85 * (best - 0.5)
    assert np.corrcoef(p, true)[0, 1] > 0.85
    assert p.mean() / true.mean() == pytest.approx(1, abs=0.12)
    for low, high in ((0, 50), (50, 90), (90, 100)):  # and so are the rows it ranks low, in the middle, and high
        part = (p >= np.percentile(p, low)) & (p <= np.percentile(p, high))
        assert p[part].mean() / true[part].mean() == pytest.approx(1, abs=0.25)


def test_nothing_is_said_of_what_they_do_not(planted: tuple) -> None:
    _, found = planted
    tasks = {"is_click", "is_like", "is_follow"}
    assert set(found) == tasks | {"is_like_given_is_click", "is_follow_given_is_click"}
