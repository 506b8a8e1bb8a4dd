"""A feature that determines a label is refused, by the rows and not by its name; a reason overrides that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table

from funrec.utils.errors import InputError

WORDS = {"words": {"kind": "numeric"}}
ROWS = 4000


def table() -> pl.DataFrame:
    random = np.random.default_rng(5)
    return log_table(ROWS).with_columns(words=pl.Series(random.integers(0, 10_000, ROWS)))


@pytest.mark.parametrize("kind", [{"kind": "numeric"}, {"kind": "categorical"}])
def test_a_column_that_a_label_is_computed_from_may_be_a_feature(tmp_path: Path, kind: dict[str, Any]) -> None:
    tasks = {"click": {}, "long": {"label": "click = 1 AND words >= 3000"}}
    data = prepare_table(tmp_path, table(), tasks=tasks, features={"words": kind, "user": {}})
    (removed, share) = data.statistics["agreement"]["words"]["long"]
    assert removed < 0.3 and 0.5 < share < 0.75


def test_a_feature_that_determines_a_label_is_refused_with_the_figure(tmp_path: Path) -> None:
    tasks = {"click": {}, "long": {"label": "words >= 3000"}}
    with pytest.raises(InputError, match=r"^dataset.features.words should not be a label: task long .* 9\d.\d%") as e:
        prepare_table(tmp_path, table(), tasks=tasks, features=WORDS)
    assert "\n" not in str(e.value) and "known_before" in str(e.value)


def test_a_regression_is_guarded_too(tmp_path: Path) -> None:
    tasks = {"click": {}, "length": {"label": "words * 2.0 + 1", "kind": "regression"}}
    with pytest.raises(InputError, match=r"task length is read from column words, which alone gives 100.0%"):
        prepare_table(tmp_path, table(), tasks=tasks, features=WORDS)
    tasks["length"]["label"] = "words * 0.0001 + rating"
    assert prepare_table(tmp_path, table(), tasks=tasks, features=WORDS).numeric_features == ("words",)


def test_a_reason_overrides_the_guard_and_the_leaky_mark_and_is_asked_for_again(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"tasks": {"click": {}, "long": {"label": "words >= 3000"}}}
    changes["leaky"] = {"words": "it is counted after the click"}
    known = {"words": {"kind": "numeric", "known_before": "the article's length"}}
    data = prepare_table(tmp_path, table(), features=known, **changes)
    assert data.features[0].known_before == "the article's length"
    with pytest.raises(InputError, match="it is counted after the click"):
        prepare_table(tmp_path, table(), features=WORDS, **changes)
    with pytest.raises(InputError, match="should not be a label"):  # although the arrays are in the cache
        prepare_table(tmp_path, table(), features=WORDS, tasks=changes["tasks"])


def test_a_label_itself_is_no_feature_whatever_the_reason(tmp_path: Path) -> None:
    features = {"click": {"known_before": "I say so"}}
    with pytest.raises(InputError, match=r"^dataset.features.click should not be a label: task click is read from"):
        prepare_table(tmp_path, table(), features=features)
