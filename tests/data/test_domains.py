"""Domains: `dataset.domain` is a feature too, and every row's is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tables import prepare_table

from funrec.data.domain import add_domain
from funrec.runs.tables import render_slices
from funrec.utils.errors import InputError

ROWS = 200


def table(domains: list[Any]) -> pl.DataFrame:
    repeated = [domains[place % len(domains)] for place in range(ROWS)]
    return pl.DataFrame(
        {
            "user": [f"u{place % 17}" for place in range(ROWS)],
            "click": [(place // 2) % 2 for place in range(ROWS)],
            "tab": repeated,
            "part": ["train"] * (ROWS // 2) + ["valid"] * (ROWS // 2),
        }
    )


def prepared(folder: Path, rows: pl.DataFrame, **changes: Any) -> Any:
    parts = {"features": {"user": {}}, "tasks": {"click": {}}, "split": {"by": "column", "column": "part"}}
    return prepare_table(folder, rows, **{**parts, "group": "user", "item": None, "domain": "tab", **changes})


def test_the_domain_is_a_feature_though_none_names_it(tmp_path: Path) -> None:
    data = prepared(tmp_path, table(["a", "b", "c"]))
    assert data.layout.id_features == ("user", "tab")
    assert data.domain == "tab"


def test_a_new_row_of_another_domain_is_refused(tmp_path: Path) -> None:
    data = prepared(tmp_path, table(["a", "b"]))
    with pytest.raises(InputError, match=r"^dataset\.domain=tab should be one .*: a, b\. Received: z in rows, 1"):
        data.encode(pl.DataFrame({"user": ["u1", "u2"], "tab": ["a", "z"]}))


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (["a", None], r"^dataset\.domain=tab should have a value in every row\. It is null in 50 training rows"),
        (["a"], r"^dataset\.domain=tab should have at least two values in the training rows\. Received: a alone\."),
    ],
)
def test_training_rows_without_domains_to_tell_apart_are_refused(
    domains: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, table(domains))


def test_a_domain_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    rows = table(["a", "b"]).with_columns(tab=pl.when(pl.int_range(pl.len()) < 150).then("tab").otherwise(pl.lit("z")))
    with pytest.raises(InputError, match=r"^dataset\.domain=tab .* Received: z in the valid split, 50 rows"):
        prepared(tmp_path, rows)


@pytest.mark.parametrize(
    ("feature", "why"),
    [
        ({"hash_buckets": 8}, "which sets hash_buckets"),
        ({"min_count": 5}, "which sets min_count"),
        ({"kind": "numeric"}, "a numeric one"),
    ],
)
def test_a_feature_that_merges_values_is_no_domain(feature: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=rf"^dataset\.domain should name a categorical feature .* tab, {why}\.$"):
        add_domain({"tab": feature}, "tab")


def test_metrics_by_domain_are_the_domains_part_of_the_slices() -> None:
    parts = [
        {"split": "valid", "slice": name, "value": value, "rows": 9, "metrics": {"auc_click": 0.6}}
        for name, value in (("user", "cold"), ("tab", "a"), ("tab", "b"))
    ]
    shown = render_slices({"slices": parts}, of="tab")
    assert "cold" not in shown
    assert shown.count("| tab ") == 2
