"""One scoring path, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
from examples import Rows, model, planted_rows, randomise

from funrec.training.scoring import ScoreNotANumber, Scorer


@pytest.fixture
def rows() -> Rows:
    return planted_rows(lambda ids: (0 * ids[:, 0] + 0.5, 0 * ids[:, 0] + 0.5), rows=103)


def test_scores_do_not_depend_on_the_batch_size(rows: Rows) -> None:
    built = model()
    randomise(built)
    expected = built({"ids": rows.ids, "sequences": {}}).numpy()
    for batch_size in (1000, 103, 10, 7):
        scores = Scorer(built, batch_size).score(rows)
        for place, task in enumerate(("click", "like")):
            np.testing.assert_allclose(scores[task], expected[place], rtol=1e-4, atol=1e-5)
            assert scores[task].dtype == np.float32


def test_the_weights_are_those_at_the_time_of_scoring(rows: Rows) -> None:
    built = model()
    scorer = Scorer(built)
    before = scorer.score(rows)["click"]
    randomise(built)
    assert (scorer.score(rows)["click"] != before).all()


def test_a_score_that_is_no_number_names_its_head(rows: Rows) -> None:
    built = model()
    values = built.towers.bias.numpy()
    values[1] = np.nan
    built.towers.bias.assign(values)
    with pytest.raises(ScoreNotANumber) as diverged:
        Scorer(built).score(rows)
    assert diverged.value.head == "like"
