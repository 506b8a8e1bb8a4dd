"""Features, tasks and splits are checked by their annotations; a key of another kind is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from funrec.config.inputs import build_features, build_tasks, feature_defaults, read_feature
from funrec.data.preparation.splitting import build_split
from funrec.schema import FEATURES, NumericFeature, event_columns
from funrec.utils.errors import InputError
from funrec.utils.specs import spec_of


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"knid": "numeric"}, "dataset.features.age.knid: no such key. Did you mean kind?"),
        ({"kind": "numerical"}, "dataset.features.age.kind should be one of categorical, sequence, numeric."),
        ({"min_count": 0}, "dataset.features.age.min_count should be a positive whole number. Received: 0."),
        ({"quantiles": 4}, "dataset.features.age.quantiles is for numeric features. Received: a categorical one."),
        (
            {"kind": "numeric", "min_count": 2},
            "dataset.features.age.min_count is for categorical and sequence features.",
        ),
        ({"kind": "numeric", "quantiles": 1}, "dataset.features.age.quantiles should be a whole number of at"),
        ({"kind": "numeric", "boundaries": [2, 1]}, "dataset.features.age.boundaries should rise strictly."),
        ({"share_with": "agee"}, "dataset.features.age.share_with should name another feature. Received: agee."),
    ],
)
def test_a_feature_that_does_not_fit_is_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        build_features({"age": values, "user": {}})
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("seen", "also", "line"),
    [
        (
            {"target": "itme"},
            {},
            "dataset.features.seen.target should name a feature with one id a row. Received: itme.",
        ),
        ({"target": "price"}, {}, "dataset.features.seen.target should name a feature with one id a row."),
        ({"target": "user"}, {}, "dataset.features.seen.embedding_dim should equal that of its target user: 4."),
        ({"search": "item"}, {}, "dataset.features.seen.search should name a feature that a column of its events"),
        (
            {"share_with": "also", "search": "also"},
            {},
            "dataset.features.seen.search should name a feature with one id",
        ),
        ({}, {"max_length": 7}, "dataset.features.also.max_length should equal that of seen, whose events it has: 20."),
        ({}, {"pooling": "max"}, "dataset.features.also: pooling and search should stand at seen, the first sequence"),
    ],
)
def test_a_sequence_that_does_not_fit_its_target_or_events_is_one_line(
    seen: dict[str, Any], also: dict[str, Any], line: str
) -> None:
    features = {"user": {"embedding_dim": 4}, "item": {}, "price": {"kind": "numeric"}}
    sequences = {name: {"kind": "sequence", "events": "e", **own} for name, own in (("seen", seen), ("also", also))}
    with pytest.raises(InputError) as refused:
        build_features({**features, **sequences})
    assert str(refused.value).startswith(line)


def test_sequences_of_the_same_events_stand_together() -> None:
    features = build_features(
        {name: {"kind": "sequence", "events": of} for name, of in zip("abcd", "xyxz", strict=True)}
    )
    groups = [[column.name for column in columns] for columns in event_columns(features)]
    assert groups == [["a", "c"], ["b"], ["d"]]


def test_a_feature_that_spells_every_key_as_version_0_1_did_is_read() -> None:
    spelled = {**dict.fromkeys(feature_defaults()), "kind": "numeric", "min_count": 1, "pooling": "mean", "fill": 0}
    (feature,) = build_features({"age": spelled})
    assert feature == NumericFeature("age", column="age", fill=0.0)


@pytest.mark.parametrize("kind", FEATURES)
def test_what_a_feature_writes_is_what_it_reads(kind: type[Any]) -> None:
    feature = kind("age", embedding_dim=4)
    assert read_feature(feature.to_plain()) == feature
    assert set(spec_of(kind, {"name"}).parameters) <= set(feature_defaults())


def test_a_number_serves_as_a_name() -> None:
    (feature,) = build_features({"user": {"column": 101}})
    assert feature.column == "101"


def test_a_task_and_a_split_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(InputError, match=r"^dataset\.tasks\.click\.weight should be a number of at least 0\."):
        build_tasks({"click": {"weight": -1}})
    with pytest.raises(InputError, match=r"^dataset\.split\.valid should be a share between 0 and 1 or null\."):
        build_split({"valid": 1})
