"""KuaiRand in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tables import kuairand, write_kuairand

from funrec.data.arrays import PreparedData
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError


def prepared(root: Path, **changes: Any) -> PreparedData:
    return prepare(kuairand(root, **changes), root / "cache")


def test_rows_are_joined_with_their_user_and_video(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(root, logs=["4_22_to_5_08"])
    folder = root / "data"
    raw = (
        pl.read_csv(folder / "log_standard_4_22_to_5_08_pure.csv")
        .join(pl.read_csv(folder / "user_features_pure.csv"), on="user_id", how="left", maintain_order="left")
        .join(pl.read_csv(folder / "video_features_basic_pure.csv"), on="video_id", how="left", maintain_order="left")
    )
    for split in data.splits.values():
        rows = raw.gather(split.rows)
        for place, name in enumerate(data.layout.id_features):
            keys = [None, *data.vocabularies[name].keys.to_list()]
            expected = rows[name].to_list()
            if name == "tag":
                expected = [None if tags is None else int(tags.split(",")[0]) for tags in expected]
            assert [keys[row] for row in split.ids[:, place]] == expected
        assert split.labels[:, 2].tolist() == rows["is_like"].to_list()
    encoded = data.encode(raw)
    assert (encoded.ids[data.splits["valid"].rows] == data.splits["valid"].ids).all()


def test_all_logs_that_exist_are_used_unless_some_are_named(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    assert prepared(root).statistics["rows"] == 480
    assert prepared(root, logs=["4_22_to_5_08"]).statistics["rows"] == 240
    (root / "data" / "log_standard_4_08_to_4_21_pure.csv").unlink()
    assert prepared(root).statistics["rows"] == 240
    with pytest.raises(
        InputError, match=r"log_standard_4_08_to_4_21_pure.csv should exist: it is the log to learn from"
    ):
        prepared(root, logs=["4_08_to_4_21"])


def test_only_the_files_that_the_columns_need_must_exist(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path, statistics=False)
    (root / "data" / "user_features_pure.csv").unlink()
    features = {"user_id": {}, "video_id": {}, "video_type": {}}
    assert prepared(root, features=features).statistics["rows"] == 480
    with pytest.raises(
        InputError, match=r"user_features_pure.csv should exist: column onehot_feat0 \(dataset.features"
    ):
        prepared(root, features={**features, "onehot_feat0": {}})
    with pytest.raises(InputError, match=r"video_features_statistic_pure.csv should exist: column play_cnt"):
        prepared(root, features={**features, "play_cnt": {"kind": "numeric"}}, allow_leaky=True)


def test_root_may_be_the_folder_of_the_files_itself(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    assert prepared(root / "data").statistics["rows"] == 480


def test_27k_comes_in_parts(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path, variant="27k", parts=True)
    features = {"video_id": {}, "play_cnt": {"kind": "numeric"}, "statistic_follow_user_num": {"kind": "numeric"}}
    data = prepared(root, variant="27k", features=features, allow_leaky=True)
    assert data.statistics["rows"] == 480
    assert data.statistics["sources"] == [
        *(f"log_standard_{days}_27k_part{part}.csv" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)),
        *(f"video_features_statistic_27k_part{part}.csv" for part in (1, 2)),
    ]
    (root / "data" / "log_standard_4_22_to_5_08_27k_part1.csv").unlink()
    with pytest.raises(InputError, match=r"part2.csv should have all its parts beside it. Part 1 is missing"):
        prepared(root, variant="27k")


def test_tag_is_a_list_of_which_a_sequence_takes_all(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(root, features={"video_id": {}, "tag": {"kind": "sequence"}})
    keys = [None, *data.vocabularies["tag"].keys.to_list()]
    videos = [None, *data.vocabularies["video_id"].keys.to_list()]
    split = data.splits["train"]
    shown = {
        videos[row]: [keys[tag] for tag in tags if tag >= 0]
        for row, tags in zip(split.ids[:, 0], split.sequences["tag"].padded(range(len(split)), 4), strict=True)
    }
    assert shown[0] == [] and shown[1] == [12, 65] and shown[5] == [3, 7, 12]


def test_randomly_exposed_rows_are_evaluated_from_valid_from_on(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(root, random_exposure=True)
    rows = pl.read_csv(root / "data" / "log_random_4_22_to_5_08_pure.csv").filter(pl.col("date") >= 20220506)
    assert list(data.splits) == ["train", "valid", "random"]
    assert data.splits["random"].labels[:, 0].tolist() == rows["is_click"].to_list()
    assert data.statistics["splits"]["random"]["time_range"] == [20220506, 20220508]
    (root / "data" / "log_random_4_22_to_5_08_pure.csv").unlink()
    with pytest.raises(InputError, match=r"should exist: dataset.random_exposure=true evaluates on it"):
        prepared(root, random_exposure=True)


def test_where_filters_both_logs(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(root, random_exposure=True, where="tab IN (0,2)", features={"user_id": {}, "tab": {}})
    assert set(data.vocabularies["tab"].keys.to_list()) == {0, 2}
    assert data.statistics["splits"]["random"]["oov_rate"]["tab"] == 0


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("play_time_ms", "how long the video was watched"),
        ("profile_stay_time", "how long the user stayed"),
        ("comment_stay_time", "how long the user stayed"),
        ("is_follow", "whether the row ended in a follow"),
        ("play_cnt", "averaged over the whole month"),
        ("statistic_follow_user_num", "averaged over the whole month"),
    ],
)
def test_leaky_columns_are_refused_with_the_reason(tmp_path: Path, column: str, reason: str) -> None:
    root = write_kuairand(tmp_path)
    features = {"user_id": {}, column: {}}
    with pytest.raises(InputError, match=rf"dataset.features.{column} .*{reason}.*dataset.allow_leaky=true"):
        prepared(root, features=features)


def test_leaky_columns_may_be_allowed_but_a_label_never(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(
        root, features={"user_id": {}, "is_hate": {}, "follow_user_num": {"kind": "numeric"}}, allow_leaky=True
    )
    assert "is_hate" in data.layout.id_features
    with pytest.raises(InputError, match=r"dataset.features.is_like should not be a label"):
        prepared(root, features={"user_id": {}, "is_like": {}}, allow_leaky=True)


def test_a_nested_like_is_a_label_expression(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    like = {"after": "is_click"}
    plain = prepared(root, tasks={"is_click": {}, "is_like": like})
    nested = prepared(root, tasks={"is_click": {}, "is_like": {**like, "label": "is_click = 1 AND is_like = 1"}})
    violations = [data.statistics["splits"]["train"]["nesting"]["is_like"]["violations"] for data in (plain, nested)]
    assert violations[0] > 0 and violations[1] == 0


def test_a_table_that_holds_a_key_twice_is_refused(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    path = root / "data" / "user_features_pure.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(InputError, match=r"user_features_pure.csv should hold each user_id once. 1 rows repeat one"):
        prepared(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"vidoe_id": {}}}, r"dataset.features.vidoe_id: no such column in .* Did you mean video_id\?"),
        (
            {"features": {"fans_user_num": {}}},
            r"dataset.features.fans_user_num: no such column .* user_features_pure.csv",
        ),
        ({"variant": "2k"}, r"dataset.variant should be one of pure, 1k, 27k. Received: 2k"),
        ({"logs": ["april"]}, r"dataset.logs.0 should be one of 4_08_to_4_21, 4_22_to_5_08\. Received: april"),
        ({"root": "nowhere"}, r"dataset.root should be the folder KuaiRand-Pure .* There is no folder nowhere"),
        ({"variant": "1k"}, r"dataset.root should hold data/log_standard_4_22_to_5_08_1k.csv.*variant pure"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_kuairand(tmp_path / "archive")
    with pytest.raises(InputError, match=message) as error:
        prepare(kuairand(**{"root": str(tmp_path / "archive"), **changes}), tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_the_published_sample_gives_the_known_figures(shared_data: Path, tmp_path: Path) -> None:
    names = (
        "user_id video_id user_active_degree is_live_streamer is_video_author follow_user_num_range "
        "fans_user_num_range friend_user_num_range register_days_range author_id video_type upload_type "
        "visible_status music_id music_type tag"
    )
    data = prepare(
        kuairand(
            shared_data / "kuairand_pure_sample",
            features={name: {} for name in names.split()},
            split={"by": "time", "column": "date", "valid_from": 20220503},
        ),
        tmp_path,
    )
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 135_128, "valid": 49_933}
    valid = data.splits["valid"]
    assert valid.groups is not None
    frame = pl.DataFrame({"user": valid.groups}).with_columns(
        pl.Series(task.name, valid.labels[:, place]) for place, task in enumerate(data.tasks)
    )
    rates = frame.group_by("user").agg(pl.all().mean())
    both = {task.name: int(((rates[task.name] > 0) & (rates[task.name] < 1)).sum()) for task in data.tasks}
    assert both == {"is_click": 6534, "long_view": 5929, "is_like": 506}


def test_the_hour_of_an_exposure_is_a_column(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    data = prepared(root, features={"user_id": {}, "hour": {"kind": "numeric"}})
    log = pl.read_csv(root / "data" / "log_standard_4_22_to_5_08_pure.csv")
    mean, scale = data.encoders["hour"].mean, data.encoders["hour"].scale
    hours = data.splits["valid"].numeric[:, 0] * scale + mean
    assert np.ptp(hours) > 0 and set(np.round(hours).astype(int)) <= set((log["hourmin"] // 100).to_list())


def test_the_log_of_the_weeks_before_may_feed_histories_alone(tmp_path: Path) -> None:
    root = write_kuairand(tmp_path)
    features = {"user_id": {}, "seen": {"kind": "history", "by": ["author_id"], "count": True}}
    data = prepare(kuairand(root, features=features, history={"logs": ["4_08_to_4_21"]}), tmp_path / "cache")
    authors = pl.read_csv(root / "data" / "video_features_basic_pure.csv").select("video_id", "author_id")
    early, late = (
        pl.read_csv(root / "data" / f"log_standard_{name}_pure.csv").join(authors, on="video_id", maintain_order="left")
        for name in ("4_08_to_4_21", "4_22_to_5_08")
    )
    assert len(data.splits["train"]) + len(data.splits["valid"]) == late.height
    both, mean, scale = pl.concat([early, late]), data.encoders["seen"].mean, data.encoders["seen"].scale
    for place, row in enumerate(data.splits["valid"].rows[:50]):
        day, author = late.select("date", "author_id").row(row)
        expected = both.filter((pl.col("date") < day) & (pl.col("author_id") == author)).height
        assert np.expm1(data.splits["valid"].numeric[place, 0] * scale + mean) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": {"logs": ["4_08"]}}, r"^dataset\.history\.logs should name standard logs, of 4_08_to_4_21, 4_22"),
        ({"history": {"logs": ["4_08_to_4_21"]}, "logs": ["4_08_to_4_21"]}, r"that dataset\.logs does not have"),
    ],
)
def test_an_earlier_log_that_is_none_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kuairand(write_kuairand(tmp_path), **changes)
