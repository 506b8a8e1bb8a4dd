"""A run on frames in memory equals one on the same rows in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import log_table

from funrec import InputError, run_experiment

TABLE = (
    *("dataset.split.valid=0.25", "dataset.group=user", "trainer=smoke"),
    *("+dataset.features={user: {}, item: {}}", "+dataset.tasks={click: {}}"),
)


@pytest.mark.slow
def test_a_frame_gives_the_metrics_of_its_file(workdir: Path) -> None:
    table = log_table(2000)
    table.write_parquet("log.parquet")
    expected = run_experiment("shared_bottom", "dataset=tabular", "dataset.path=log.parquet", *TABLE)
    found = run_experiment("shared_bottom", *TABLE, data=table)
    assert found.metrics == expected.metrics
    assert found.record["config"]["dataset"]["path"].startswith("frame:")
    assert (found.predict(table) == expected.predict(table)).all(axis=None)


def test_a_frame_without_a_column_is_one_line(workdir: Path) -> None:
    with pytest.raises(InputError, match=r"^dataset.features.user: no such column in the frame\.") as error:
        run_experiment("mmoe", *TABLE, data=log_table().drop("user"))
    assert "\n" not in str(error.value)
