"""What a request may hold: read as raw rows are, and refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from exported import FEATURES, as_json, log

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.arrays import ModelInputs
from funrec.data.datasets.base import Dataset
from funrec.data.preparation.prepare import prepare
from funrec.export.inputs import read_inputs
from funrec.export.requests import RequestRows
from funrec.utils.errors import InputError

MORE = ", rate: {kind: history, by: [user], rate: click}, both: {column: item}, place: {}}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ModelInputs:
    """Every kind of feature, a history among them, and a domain."""
    folder = tmp_path_factory.mktemp("requests")
    days = pl.Series([date(2026, 1, 1 + row // 300) for row in range(3000)])
    rows = log().with_columns(day=days, place=pl.Series([f"p{row % 3}" for row in range(3000)]))
    rows.write_parquet(folder / "log.parquet")
    config = compose(
        [
            *("dataset=tabular", f"dataset.path={folder}/log.parquet", "dataset.domain=place", "dataset.time=day"),
            *(f"dataset.features={FEATURES[:-1]}{MORE}", "dataset.tasks={click: {label: click}}"),
            *("dataset.split={by: time, valid_from: 2026-01-09}", "dataset.group=user"),
        ]
    )
    return prepare(build(config["dataset"], Dataset, "dataset"), folder / "cache")


def test_rows_of_a_request_are_read_as_rows_of_a_file_are(inputs: ModelInputs) -> None:
    read = RequestRows(inputs, most_rows=1000)
    frame = log().head(200).with_columns(day=date(2026, 1, 12), place=pl.lit("p1")).select(inputs.columns)
    body = json.dumps({"rows": as_json(frame)}).encode()
    found, expected = read.arrays(read.parse(body)), read_inputs(inputs, frame)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert read.parse(json.dumps({"rows": [read.example]}).encode()) == [read.example]
    assert len(read.arrays([read.example])) == len(found)
    with pytest.raises(InputError):
        read.arrays([GOOD | {"day": "yesterday"}])


GOOD = {"user": 1, "item": "ü1", "x": 0.5, "y": None, "tags": ["1"], "read": None, "seen": None}
GOOD |= {"day": "2026-01-09", "place": "p0"}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"usr": 1}, "rows[0].usr: no such field. Did you mean user?"),
        ({"user": None, "item": 5}, "rows[0].item: Input should be a valid string."),
        ({"user": "1"}, "rows[0].user: Input should be a valid integer."),
        ({"user": True}, "rows[0].user: Input should be a valid integer."),
        ({"user": 2**63}, "rows[0].user: Input should be less than 9223372036854775808."),
        ({"user": -(2**63)}, "rows[0].user: Input should be greater than -9223372036854775807."),
        ({"x": None}, "rows[0].x: Input should be a valid number."),
        ({"x": float("nan")}, "rows[0].x: Input should be a finite number."),
        ({"y": 1e308 * 10}, "rows[0].y: Input should be a finite number."),
        ({"item": "a\0b"}, "rows[0].item should hold neither U+0000 nor U+FDD0."),
        ({"tags": ["1", "\ufdd0"]}, "rows[0].tags[1] should hold neither U+0000 nor U+FDD0."),
        ({"tags": ["1", None]}, "rows[0].tags[1]: Input should be a valid string."),
        ({"tags": "1,2"}, "rows[0].tags: Input should be a valid array."),
        ({"place": "p9"}, "rows[0].place: Input should be "),
        ({"day": None}, "rows[0].day: Input should be a valid string."),
    ],
)
def test_a_field_that_is_not_as_it_should_be_is_refused_in_one_line(
    inputs: ModelInputs, changed: dict[str, Any], line: str
) -> None:
    read = RequestRows(inputs, most_rows=1000)
    assert read.parse(json.dumps({"rows": [GOOD]}).encode()) == [GOOD]
    with pytest.raises(InputError) as refused:
        read.parse(json.dumps({"rows": [GOOD | changed]}).encode())
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"", "The body should be JSON."),
        (b"[1]", "The body: Input should be an object."),
        (b"{}", "rows should be given"),
        (b'{"rows": []}', "rows: List should have at least 1 item"),
        (b'{"rows": [1]}', "rows[0]: Input should be an object."),
        (b'{"rows": [{}]}', "rows[0].user should be given, null if it is not known."),
        (b"[" * 100_000, "The body should be JSON. Received: recursion limit exceeded"),
        (b'{"rows": [{"user": ' + b"9" * 100_000 + b"}]}", "The body should be JSON. Received: number out of range"),
        (b'{"rows": [{"' + b"x" * 100_000 + b'": 1}]}', "rows[0].xxx"),
        (b"\xff\xfe\x00", "The body should be JSON."),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_one_short_line(inputs: ModelInputs, body: bytes, line: str) -> None:
    with pytest.raises(InputError) as refused:
        RequestRows(inputs, most_rows=2).parse(body)
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_columns_of_the_same_events_have_lists_of_one_length(inputs: ModelInputs) -> None:
    together = {
        name: replace(encoder, feature=replace(encoder.feature, events="visits"))
        if name in ("tags", "read")
        else encoder
        for name, encoder in inputs.encoders.items()
    }
    read = RequestRows(replace(inputs, encoders=together), most_rows=2)
    with pytest.raises(InputError, match=r"rows\[1\] should have lists of one length: read, tags"):
        read.parse(json.dumps({"rows": [GOOD | {"read": ["ü1"]}, GOOD]}).encode())
