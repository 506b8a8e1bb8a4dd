"""Validation rows that stand in the training split too are counted; rows that are alike by nature tell how many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table

from funrec.data.preparation import checks
from funrec.data.preparation.checks import count_repeats

#: With the price each row is one of its kind.
FEATURES = {
    "user": {},
    "item": {},
    "price": {"kind": "numeric"},
    "tags": {"kind": "sequence", "fill": None},
}


def leak(table: pl.DataFrame, share: float) -> pl.DataFrame:
    """Put a share of the validation rows among the training rows, a day of training on them."""
    valid = table.filter(pl.col("day") >= 20220508)
    copies = valid.head(round(share * valid.height)).with_columns(
        pl.lit(20220501).cast(valid["day"].dtype).alias("day")
    )
    return pl.concat([table, copies])


def test_rows_of_their_own_do_not_repeat(tmp_path: Path) -> None:
    found = count_repeats(prepare_table(tmp_path, features=FEATURES, group="user", item="item"))
    assert (found.valid, found.train) == (0, 0)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_validation_rows_among_the_training_rows_are_counted(tmp_path: Path, share: float) -> None:
    table = log_table()
    found = count_repeats(prepare_table(tmp_path, leak(table, share), features=FEATURES, group="user", item="item"))
    valid = table.filter(pl.col("day") >= 20220508).height
    assert found.valid == pytest.approx(round(share * valid) / valid)
    assert found.train == 0


def test_training_rows_that_repeat_each_other_are_the_measure(tmp_path: Path) -> None:
    """20 users, 15 items and a label: 600 kinds of rows, so that many repeat by nature, in both splits alike."""
    found = count_repeats(prepare_table(tmp_path, log_table(2000), group="user", item="item"))
    assert found.valid > 0.8
    assert found.train == pytest.approx(found.valid, abs=0.1)


def test_a_row_that_differs_in_its_label_or_a_tag_is_another_row(tmp_path: Path) -> None:
    table = log_table()
    other_label = leak(table, 1.0).with_columns(
        pl.when(pl.col("day") == 20220501).then(1 - pl.col("click")).otherwise(pl.col("click")).alias("click")
    )
    other_tags = leak(table, 1.0).with_columns(
        pl.when(pl.col("day") == 20220501).then(pl.lit("0,") + pl.col("tags")).otherwise("tags").alias("tags")
    )
    for place, changed in (("a", other_label), ("b", other_tags)):
        (tmp_path / place).mkdir()
        found = count_repeats(prepare_table(tmp_path / place, changed, features=FEATURES, group="user", item="item"))
        assert found.valid == 0


def test_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_table(tmp_path, leak(log_table(), 0.3), features=FEATURES, group="user", item="item")
    whole = count_repeats(data)
    monkeypatch.setattr(checks, "ROWS_PER_BATCH", 7)
    assert count_repeats(data) == whole


def test_a_sample_of_the_rows_tells_the_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = leak(log_table(4000), 1.0)
    shuffled = table.with_columns(pl.Series("click", np.random.default_rng(0).permutation(table["click"].to_numpy())))
    data = prepare_table(tmp_path, shuffled, features=FEATURES, group="user", item="item")
    whole = count_repeats(data)
    monkeypatch.setattr(checks, "MOST_ROWS", 500)
    assert 0.2 < whole.valid < 0.8  # shuffled labels agree by chance
    # 500 of about 1,200 rows know a share of a half to 0.022; four times that.
    assert count_repeats(data).valid == pytest.approx(whole.valid, abs=0.09)
