"""The description says what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import log_table, prepare_table

from funrec.data.preparation.description import describe


def test_the_description_names_rows_rates_nesting_and_vocabularies(tmp_path: Path) -> None:
    table = log_table()
    data = prepare_table(
        tmp_path,
        table,
        features={"user": {}, "item": {"min_count": 20}, "price": {"kind": "numeric"}},
        tasks={"click": {}, "buy": {"after": "click"}, "rating": {"kind": "regression"}},
        group="user",
        item="item",
        time="day",
    )
    rows, labels, nesting, features = describe(data)
    valid = table.gather(data.splits["valid"].rows)
    assert rows.header == ("split", "rows", "users", "items", "from", "to")
    assert rows.rows[1] == ("valid", valid.height, 20, 15, "20220508", "20220510")
    assert rows.rows[-1] == ("all", 400, 20, 15, "20220501", "20220510")
    assert labels.rows[0][-2:] == (valid.height, pytest.approx(valid["click"].mean()))
    assert labels.rows[2][-1] == pytest.approx(valid["rating"].mean(), abs=1e-6)
    assert nesting.rows[1] == ("buy", "click", "valid", valid.height, valid["buy"].sum(), 0)
    kept = set(data.vocabularies["item"].keys.to_list())
    unknown = 1 - valid["item"].is_in(list(kept)).mean()
    assert features.rows[1] == ("item", "categorical", len(kept) + 1, pytest.approx(unknown)) and 0 < unknown < 1
    assert features.rows[2] == ("price", "numeric", None, None)
    assert "label nesting" in str(nesting) and "20220508" in str(rows) and "| valid" in str(nesting)


def test_a_dataset_without_groups_or_nesting_leaves_those_cells_and_that_table_out(tmp_path: Path) -> None:
    description = describe(prepare_table(tmp_path))
    assert [section.title for section in description] == ["rows", "labels", "features"]
    assert description[0].rows[0][2:] == (None, None, None, None)
    assert str(description[0])
