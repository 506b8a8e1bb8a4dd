"""Histories as features: what is prepared sees the past alone, and new rows get the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import log_table, prepare_table, tabular

from funrec.data.arrays import PreparedData, load_inputs, save_inputs
from funrec.data.preparation.cache import fingerprint
from funrec.utils.errors import InputError

HISTORIES: dict[str, Any] = {
    "exposures": {"kind": "history", "by": "user", "count": True},
    "click_rate": {"kind": "history", "by": ["item"], "rate": "click", "smoothing": 2},
    "paid": {"kind": "history", "by": "user", "mean": "rating", "where": "buy = 1"},
    "visit": {"kind": "history", "by": "user", "since": "last"},
    "week": {"kind": "history", "by": "item", "count": True, "window": "3d", "boundaries": [1, 3, 5]},
    "recent": {"kind": "history", "by": "user", "last": 4, "of": "item", "where": "click = 1", "share_with": "item"},
    "pairs": {"kind": "history", "by": "user", "last": 2, "of": ["item", "click"]},
}
FEATURES: dict[str, Any] = {"user": {}, "item": {}, **HISTORIES}


def prepared(folder: Path, table: pl.DataFrame | None = None, **changes: Any) -> PreparedData:
    folder.mkdir(exist_ok=True)
    return prepare_table(folder, table, **{"features": FEATURES, "time": "day", **changes})


def raw_numbers(data: PreparedData, split: str, name: str) -> np.ndarray:
    mean, scale = data.encoders[name].mean, data.encoders[name].scale
    return data.splits[split].numeric[:, data.layout.numeric_features.index(name)].astype(np.float64) * scale + mean


def texts(data: PreparedData, split: str, name: str) -> list[list[Any]]:
    owner = data.encoders[name].owner
    assert owner is not None
    keys = [None, *data.vocabularies[owner].keys.to_list()]
    arrays = data.splits[split].sequences[name]
    return [[keys[row] for row in rows if row >= 0] for rows in arrays.padded(np.arange(len(arrays)), 4)]


def earlier(table: pl.DataFrame, row: dict[str, Any], key: str) -> pl.DataFrame:
    return table.filter((pl.col("day") < row["day"]) & (pl.col(key) == row[key]))


def test_every_split_holds_what_the_days_before_say(tmp_path: Path) -> None:
    table = log_table()
    data = prepared(tmp_path, table)
    for split in ("train", "valid"):
        rows = [table.row(row, named=True) for row in data.splits[split].rows]
        seen = [earlier(table, row, "user") for row in rows]
        assert np.allclose(np.expm1(raw_numbers(data, split, "exposures")), [frame.height for frame in seen], atol=1e-4)
        bought = [frame.filter(pl.col("buy") == 1)["rating"].mean() for frame in seen]
        expected = [data.encoders["paid"].mean if mean is None else mean for mean in bought]
        assert np.allclose(raw_numbers(data, split, "paid"), expected, atol=1e-5)
        clicked = [frame.filter(pl.col("click") == 1)["item"].to_list()[-4:] for frame in seen]
        assert texts(data, split, "recent") == clicked
        assert texts(data, split, "pairs/click") == [frame["click"].to_list()[-2:] for frame in seen]
        place = data.layout.id_features.index("week")
        lately = [earlier(table, row, "item").filter(pl.col("day") >= row["day"] - 3).height for row in rows]
        assert data.splits[split].ids[:, place].tolist() == [int(np.digitize(n, [1, 3, 5])) + 1 for n in lately]


def test_the_log_is_read_before_any_row_is_left_out(tmp_path: Path) -> None:
    table = log_table()
    whole = prepared(tmp_path / "whole", table)
    for number, changes in enumerate(
        ({"where": "click = 1 OR price > 9"}, {"downsample": {"task": "click", "rate": 0.5}}, {"max_rows": 350})
    ):
        part = prepared(tmp_path / str(number), table, **changes)
        assert 0 < len(part.splits["valid"]) <= len(whole.splits["valid"])
        rows = part.splits["train"].rows
        # Of the first day nothing is known, and the missing rate stands at the mean of each part's own rows.
        later = table["day"].gather(rows).to_numpy() > 20220501
        places = np.searchsorted(whole.splits["train"].rows, rows)
        for name in ("exposures", "click_rate"):
            found, expected = raw_numbers(part, "train", name), raw_numbers(whole, "train", name)[places]
            assert np.allclose(found[later], expected[later], atol=1e-5), (changes, name)


def test_where_and_warm_up_keep_rows_out_of_the_past_and_out_of_training(tmp_path: Path) -> None:
    table = log_table()
    data = prepared(tmp_path, table, history={"where": "price > 10", "warmup": "2d"})
    assert table["day"].gather(data.splits["train"].rows).min() == 20220503
    rows = [table.row(row, named=True) for row in data.splits["train"].rows]
    seen = [earlier(table, row, "user").filter(pl.col("price") > 10).height for row in rows]
    assert np.allclose(np.expm1(raw_numbers(data, "train", "exposures")), seen, atol=1e-4)


def test_until_the_end_of_training_freezes_what_evaluation_rows_see(tmp_path: Path) -> None:
    table = log_table()
    data = prepared(tmp_path, table, history={"until": "train_end"})
    rows = [table.row(row, named=True) for row in data.splits["valid"].rows]
    seen = [table.filter((pl.col("day") < 20220508) & (pl.col("user") == row["user"])).height for row in rows]
    assert np.allclose(np.expm1(raw_numbers(data, "valid", "exposures")), seen, atol=1e-4)


@pytest.mark.parametrize("by", ["random", "group"])
def test_without_a_split_by_time_no_evaluation_row_is_seen(tmp_path: Path, by: str) -> None:
    table = log_table().with_row_index("row")
    split = {"by": by, "column": "item" if by == "group" else None, "valid": 0.3}
    # A row that `where` leaves out is seen all the same, unless its group is an evaluation one.
    where = "price > 7" if by == "group" else None
    features = {"user": {}, "exposures": HISTORIES["exposures"]}
    data = prepared(tmp_path, table, split=split, features=features, where=where)
    valid = table[data.splits["valid"].rows]
    log = table.join(valid, on="item" if by == "group" else "row", how="anti")
    assert valid.height > 50
    for name in ("train", "valid"):
        rows = [table.row(row, named=True) for row in data.splits[name].rows]
        seen = [earlier(log, row, "user").height for row in rows]
        assert np.allclose(np.expm1(raw_numbers(data, name, "exposures")), seen, atol=1e-4)


def test_evaluation_labels_move_nothing_that_training_decides(tmp_path: Path) -> None:
    table = log_table()
    changed = table.with_columns(
        pl.when(pl.col("day") >= 20220508).then(1 - pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in ("click", "buy")
    )
    before, after = prepared(tmp_path / "before", table), prepared(tmp_path / "after", changed)
    assert before.encoders == after.encoders
    assert all(before.vocabularies[name].keys.equals(after.vocabularies[name].keys) for name in before.vocabularies)
    assert np.array_equal(before.splits["train"].numeric, after.splits["train"].numeric)
    assert not np.array_equal(before.splits["valid"].numeric, after.splits["valid"].numeric)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("until", ["row", "train_end"])
def test_new_rows_get_the_same_bits_from_the_saved_log(tmp_path: Path, as_text: bool, until: str) -> None:
    table = log_table()
    data = prepared(tmp_path, table, history={"until": until})
    save_inputs(data, tmp_path / "model")
    inputs = load_inputs(tmp_path / "model")
    assert inputs.columns == ["user", "item", "day"]
    for split in data.splits.values():
        rows = table[split.rows].select("item", "day", "user")
        found = inputs.encode(rows.cast(pl.String) if as_text else rows)
        assert np.array_equal(found.numeric, split.numeric)
        assert np.array_equal(found.ids, split.ids)
        for name, sequence in split.sequences.items():
            assert np.array_equal(found.sequences[name].values, sequence.values)


def test_new_rows_may_write_dates_as_text_where_the_log_had_dates(tmp_path: Path) -> None:
    table = log_table().with_columns(pl.col("day").cast(pl.String).str.strptime(pl.Date, "%Y%m%d"))
    data = prepared(tmp_path, table, split={"by": "time", "valid_from": "2022-05-08"})
    save_inputs(data, tmp_path / "model")
    split = data.splits["valid"]
    found = load_inputs(tmp_path / "model").encode(table[split.rows].cast(pl.String))
    assert np.array_equal(found.numeric, split.numeric)


def test_new_rows_get_the_same_bits_of_a_history_with_its_own_time(tmp_path: Path) -> None:
    table = log_table().with_row_index("n").with_columns(seconds=1_651_000_000 + 600 * pl.col("n")).drop("n")
    position = {"kind": "history", "by": "user", "since": "last", "time": "seconds", "lag": 0, "until": "row"}
    features = {**FEATURES, "gap": {**position, "quantiles": 4}}
    data = prepared(tmp_path, table, features=features, history={"until": "train_end"})
    save_inputs(data, tmp_path / "model")
    inputs = load_inputs(tmp_path / "model")
    assert inputs.columns == ["user", "item", "day", "seconds"]
    for split in data.splits.values():
        found = inputs.encode(table[split.rows].select("item", "day", "user", "seconds"))
        assert np.array_equal(found.ids, split.ids) and np.array_equal(found.numeric, split.numeric)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_newer_log_moves_the_saved_one_on(tmp_path: Path, as_text: bool) -> None:
    table = log_table()
    whole = prepared(tmp_path / "whole", table, history={"where": "price > 8"})
    part = prepared(tmp_path / "part", table.filter(pl.col("day") < 20220509), history={"where": "price > 8"})
    newer, last = table.filter(pl.col("day") == 20220509), table.filter(pl.col("day") == 20220510)
    if as_text:
        newer, last = newer.cast(pl.String), last.cast(pl.String)
    history = part.history
    assert history is not None
    found = history.moved_on(newer.lazy()).complete(last)
    expected = whole.splits["valid"].rows >= table.filter(pl.col("day") < 20220510).height
    exposures = raw_numbers(whole, "valid", "exposures")[expected]
    assert np.allclose(found["history/exposures"], exposures, atol=1e-5)
    assert not np.allclose(history.complete(last)["history/exposures"], exposures, atol=1e-5)
    with pytest.raises(
        InputError, match=r"should begin after what the run has seen, day 20220508\. Received: day 202205"
    ):
        history.moved_on(table.filter(pl.col("day") >= 20220508).lazy())
    with pytest.raises(InputError, match="Rows should have column click, for their history"):
        history.moved_on(newer.drop("click").lazy())


def test_a_log_frozen_at_the_end_of_training_is_not_moved_on(tmp_path: Path) -> None:
    history = prepared(tmp_path, history={"until": "train_end"}).history
    assert history is not None
    with pytest.raises(InputError, match=r"a run with dataset\.history\.until=row"):
        history.moved_on(log_table().lazy())


@pytest.mark.parametrize("name", ["history.parquet", "history_schema.parquet"])
def test_a_saved_log_that_was_cut_short_is_named(tmp_path: Path, name: str) -> None:
    save_inputs(prepared(tmp_path), tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=rf"{name} is damaged"):
        load_inputs(tmp_path / "model")


def test_new_rows_need_the_columns_of_their_key_and_a_time(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    save_inputs(data, tmp_path / "model")
    inputs, rows = load_inputs(tmp_path / "model"), log_table(5)
    with pytest.raises(InputError, match=r"Rows should have column day, for their history. Did you mean dey\?"):
        inputs.encode(rows.rename({"day": "dey"}))
    with pytest.raises(InputError, match=r"dataset.time should be a time in every row"):
        inputs.encode(rows.with_columns(day=None))


@pytest.mark.parametrize(
    ("history", "changes", "message"),
    [
        (
            {"by": "user", "count": True},
            {"time": None, "split": {"by": "random", "valid": 0.3}},
            r"^dataset.time should",
        ),
        (
            {"by": "click", "count": True},
            {},
            r"^dataset.features.h.by should be known .* Column click is not: it is a la",
        ),
        (
            {"by": "rating", "count": True},
            {"leaky": {"rating": "so"}},
            r"h.by should be known .* Column rating is not: so",
        ),
        ({"by": "usr", "count": True}, {}, r"^dataset.features.h.by: no such column usr in log.csv. Did you mean user"),
        ({"by": "user", "cuont": True}, {}, r"^dataset.features.h.cuont: no such key. Did you mean count\?"),
        ({"by": "user", "count": True, "rate": "click"}, {}, r"^dataset.features.h should have exactly one of"),
        ({"count": True}, {}, r"^dataset.features.h.by should be given"),
        (
            {"by": "user", "last": 0, "of": "item"},
            {},
            r"h.last should be a whole number from 1 to 65535.* Received: 0",
        ),
        ({"by": "user", "last": 3, "of": "item", "share_with": "x"}, {}, r"^dataset.features.h.share_with should name"),
        (
            {"by": "user", "last": 3, "of": ["item", "tags"], "share_with": "user"},
            {},
            r"^dataset.features.h.share_with should list a feature for each of item, tags. Received: user",
        ),
        ({"by": "user", "last": 3, "of": "item", "target": "itm"}, {}, r"h.target should name a feature with one id"),
        ({"by": "user", "count": True, "ago": True}, {}, r"^dataset.features.h.ago should stand beside `last`"),
        ({"by": "user", "count": True, "where": "buy = 7"}, {}, None),
        ({"by": "user", "mean": "rating", "where": "buy = 7"}, {}, r"h should have a value in some training row"),
    ],
)
def test_a_history_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, history: dict[str, Any], changes: dict[str, Any], message: str | None
) -> None:
    features = {"user": {}, "h": {"kind": "history", **history}}
    if message is None:
        assert np.ptp(prepared(tmp_path, features=features, **changes).splits["valid"].numeric) == 0
        return
    with pytest.raises(InputError, match=message) as error:
        prepared(tmp_path, features=features, **changes)
    assert "\n" not in str(error.value)


def test_columns_of_events_stay_aligned_and_say_how_long_ago_events_were(tmp_path: Path) -> None:
    table = log_table().with_columns(shop=pl.when(pl.col("price") > 10).then(pl.col("tags").str.len_chars()))
    spec = {
        "kind": "history",
        "by": "user",
        "last": 4,
        "of": ["item", "shop"],
        "ago": True,
        "share_with": ["item", None],
    }
    data = prepared(tmp_path, table, features={"user": {}, "item": {}, "seen": spec})
    assert [column.name for column in data.layout.sequence_features] == ["seen/item", "seen/shop", "seen/ago"]
    vocabulary = data.vocabularies["seen/shop"].keys.to_list()
    buckets = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2, 8: 3, 9: 3}
    for place, row in enumerate(data.splits["valid"].rows):
        row = table.row(row, named=True)
        seen = earlier(table, row, "user").tail(4)
        for name, values in (
            ("seen/item", seen["item"].to_list()),
            ("seen/shop", [shop if shop in vocabulary else None for shop in seen["shop"]]),
            ("seen/ago", [buckets[row["day"] - day] for day in seen["day"]]),
        ):
            found = texts(data, "valid", name)[place]
            assert len(found) == len(values)
            assert all(one == value for one, value in zip(found, values, strict=True) if one is not None), name
            assert [one is None for one in found] == [value is None for value in values] or name == "seen/ago"


def test_lists_of_the_same_events_that_are_not_equally_long_are_refused(tmp_path: Path) -> None:
    table = log_table().with_columns(more=pl.lit("1,2"))
    features = {"user": {}, **{name: {"kind": "sequence", "events": "e"} for name in ("tags", "more")}}
    with pytest.raises(InputError, match=r"^dataset.features.more should have as many values in a row as tags"):
        prepared(tmp_path, table, features=features)


def test_outcomes_are_allowed_in_a_history_and_there_alone(tmp_path: Path) -> None:
    features = {"user": {}, "rated": {"kind": "history", "by": "user", "mean": "rating"}}
    leaky = {"rating": "it comes after the click"}
    assert prepared(tmp_path / "history", features=features, leaky=leaky).layout.numeric_features == ("rated",)
    with pytest.raises(InputError, match="Column rating is not: it comes after the click"):
        prepared(tmp_path / "plain", features={"rating": {"kind": "numeric"}}, leaky=leaky)


def test_only_histories_enter_the_fingerprint_with_their_settings(tmp_path: Path) -> None:
    settings: list[dict[str, Any] | None] = [None, {"until": "train_end"}, {"lag": 2}]
    tabular(tmp_path, log_table())
    assert len({fingerprint(tabular(tmp_path, history=history)) for history in settings}) == 1
    assert len({fingerprint(tabular(tmp_path, features=FEATURES, time="day", history=h)) for h in settings}) == 3


def test_earlier_logs_feed_histories_and_are_not_trained_on(tmp_path: Path) -> None:
    whole = log_table()
    early, late = (whole.filter(condition) for condition in (pl.col("day") < 20220505, pl.col("day") >= 20220505))
    early.write_csv(tmp_path / "early.csv")
    features = {"user": {}, "item": {}, "exposures": HISTORIES["exposures"], "recent": HISTORIES["recent"]}
    data = prepared(tmp_path, late, features=features, history={"logs": str(tmp_path / "early.csv")})
    assert sum(len(split) for split in data.splits.values()) == late.height
    for split in ("train", "valid"):
        seen = [earlier(whole, late.row(row, named=True), "user") for row in data.splits[split].rows]
        assert np.allclose(np.expm1(raw_numbers(data, split, "exposures")), [part.height for part in seen], atol=1e-3)
        clicked = [part.filter(pl.col("click") == 1)["item"].tail(4).to_list() for part in seen]
        assert texts(data, split, "recent") == clicked
    assert data.encode(late.tail(1).drop("click", "buy")).numeric[0] == data.splits["valid"].numeric[-1]
    plain = tabular(tmp_path, features=features, time="day")
    assert fingerprint(plain) != data.fingerprint


def test_an_earlier_log_without_a_column_is_named(tmp_path: Path) -> None:
    log_table().drop("user").write_csv(tmp_path / "early.csv")
    with pytest.raises(InputError, match=r"^dataset.features.exposures.by: no such column user"):
        prepared(tmp_path, history={"logs": [str(tmp_path / "early.csv")]})
