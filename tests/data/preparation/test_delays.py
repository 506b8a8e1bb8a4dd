"""Labels that come late: the law of delays, what training sees, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import prepare_table

from funrec.data.preparation.delays import estimate_law
from funrec.utils.errors import InputError

LATE = {"label": "buy", "observed_after": "delay"}


def late_log(rows: int = 3000, seed: int = 0) -> pl.DataFrame:
    """A log of 100 hours in which half of the rows buy, after an exponential delay of 20 hours in the mean."""
    draw = np.random.default_rng(seed)
    buy = draw.integers(0, 2, rows)
    delay = draw.exponential(20.0, rows)
    return pl.DataFrame(
        {
            "user": draw.integers(0, 20, rows),
            "item": draw.integers(0, 9, rows),
            "hour": np.sort(draw.uniform(0, 100, rows)),
            "buy": buy,
            "delay": [after if bought else None for after, bought in zip(delay, buy, strict=True)],
        }
    )


def prepare_late(folder: Path, table: pl.DataFrame, **changes: Any) -> Any:
    given = {"tasks": {"buy": LATE}, "time": "hour", "split": {"by": "time", "valid_from": 80}}
    return prepare_table(folder, table, **given | changes)


def test_the_law_of_delays_is_found_although_late_ones_are_not_seen() -> None:
    draw = np.random.default_rng(0)
    delays, elapsed = draw.exponential(20.0, 40_000), draw.uniform(0, 80, 40_000)
    seen = delays <= elapsed
    law = estimate_law(delays[seen], elapsed[seen])
    at = np.array([0.0, 2.0, 10.0, 30.0, 60.0, 80.0])
    true = (1 - np.exp(-at / 20)) / (1 - np.exp(-80 / 20))
    np.testing.assert_allclose(law.chance(at), true, atol=0.03)
    counted = np.mean(delays[seen][:, None] <= at, axis=0)
    assert (counted - true)[2] > 0.05  # what the seen delays alone would say


def test_training_sees_the_labels_of_before_validation_and_how_likely_each_was_seen(tmp_path: Path) -> None:
    table = late_log()
    data = prepare_late(tmp_path, table)
    train, valid = data.splits["train"], data.splits["valid"]
    rows, later = np.asarray(train.rows), np.asarray(valid.rows)
    hour, buy = table["hour"].to_numpy(), table["buy"].to_numpy()
    end = hour[later].min()
    seen = table["delay"].fill_null(np.inf).to_numpy()[rows] <= end - hour[rows]
    np.testing.assert_array_equal(train.labels[:, 0], seen)
    assert 0.1 < np.mean(buy[rows] - seen) < 0.3
    np.testing.assert_array_equal(valid.labels[:, 0], buy[later])
    assert valid.observed is None
    true = (1 - np.exp(-(end - hour[rows]) / 20)) / (1 - np.exp(-end / 20))
    np.testing.assert_allclose(train.observed[:, 0], true, atol=0.1)


def test_a_random_split_trains_at_the_end_of_the_log(tmp_path: Path) -> None:
    table = late_log()
    train = prepare_late(tmp_path, table, split={"by": "random", "valid": 0.2}).splits["train"]
    np.testing.assert_array_equal(train.labels[:, 0], table["buy"].to_numpy()[np.asarray(train.rows)])


def test_it_is_said_how_many_labels_the_log_ends_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = late_log().with_columns(buy=pl.col("buy") * (pl.col("hour") + pl.col("delay").fill_null(0) <= 100))
    with caplog.at_level(logging.WARNING):
        data = prepare_late(tmp_path, table)
    share = data.statistics["splits"]["valid"]["unseen"]["buy"]
    assert share == pytest.approx(np.mean(np.exp(-np.linspace(0, 20, 1000) / 20)), abs=0.08)
    assert f"an estimated {100 * share:.0f}% of the positive labels of the valid split" in caplog.text


def test_dates_written_as_numbers_count_days(tmp_path: Path) -> None:
    dates = np.array([20240129, 20240130, 20240131, 20240201, 20240202])
    day = np.sort(np.random.default_rng(0).integers(0, 5, 3000))
    table = late_log().with_columns(date=pl.Series(dates[day]), delay=(pl.col("delay") / 24).floor())
    data = prepare_late(tmp_path, table, time="date", split={"by": "time", "valid_from": 20240202})
    rows = np.asarray(data.splits["train"].rows)
    seen = table["delay"].fill_null(np.inf).to_numpy()[rows] <= 4 - day[rows]
    np.testing.assert_array_equal(data.splits["train"].labels[:, 0], seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tasks": {"buy": {"observed_after": "dely"}}},
            r"observed_after: no such column dely in .* Did you mean delay",
        ),
        (
            {"time": None, "split": {"by": "random", "valid": 0.2}},
            r"dataset\.time should be a number, .* Received: none",
        ),
        (
            {"tasks": {"buy": {"observed_after": "delay - 50"}}},
            r"buy\.observed_after should be a delay of at least 0 wherever the label is 1\. Received: -\d.*, in row \d",
        ),
        (
            {"features": {"user": {}, "delay": {"kind": "numeric", "fill": 0}}},
            r"delay should be known before the labels",
        ),
        ({"downsample": {"task": "buy", "rate": 0.5}}, r"a binary task whose labels are not late\. Received: buy"),
        (
            {"tasks": {"buy": LATE | {"kind": "regression"}}},
            r"observed_after is for binary tasks\. Received: a regression",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        prepare_late(tmp_path, late_log(400), **changes)
    assert "\n" not in str(error.value)


def test_a_positive_label_without_a_delay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Received: nan, in row \d"):
        prepare_late(tmp_path, late_log(400).with_columns(buy=1))
