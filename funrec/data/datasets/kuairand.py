"""KuaiRand (Gao et al., CIKM 2022): short videos shown to users, a part of them at random."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import check_unique, reading_errors, scan_files
from funrec.data.datasets.sources import Files, Source
from funrec.data.preparation.splitting import time_bound
from funrec.utils.errors import InputError, did_you_mean
from funrec.utils.specs import Inherited, Name

log = logging.getLogger(__name__)

VARIANTS = {"pure": "KuaiRand-Pure", "1k": "KuaiRand-1K", "27k": "KuaiRand-27K"}
LOGS = ("4_08_to_4_21", "4_22_to_5_08")
RANDOM_LOG = "4_22_to_5_08"

_FEEDBACK = {
    "is_click": "click",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "dislike",
    "long_view": "long view",
    "is_profile_enter": "visit to the author's profile",
}
_LOG_COLUMNS = (
    *("user_id", "video_id", "date", "hourmin", "time_ms"),
    *_FEEDBACK,
    *("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_rand", "tab"),
)
HOUR = "hour"
_USER_COLUMNS = (
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *(f"{kind}_user_num{suffix}" for kind in ("follow", "fans", "friend") for suffix in ("", "_range")),
    *("register_days", "register_days_range"),
    *(f"onehot_feat{place}" for place in range(18)),
)
_VIDEO_COLUMNS = (
    *("author_id", "video_type", "upload_dt", "upload_type", "visible_status", "video_duration"),
    *("server_width", "server_height", "music_id", "music_type", "tag"),
)
_COUNTED = (
    "show play complete_play valid_play long_time_play short_time_play like cancel_like comment delete_comment "
    "comment_like follow cancel_follow share download report reduce_similar collect cancel_collect direct_comment "
    "reply_comment share_all"
)
#: The name that a column of the statistics has here, and the published one, which two tables have.
_STATISTICS = {
    "statistic_follow_user_num" if name == "follow_user_num" else name: name
    for name in (
        *("counts", "play_duration", "play_progress", "comment_stay_duration"),
        *("click_like_cnt", "double_click_cnt", "outsite_share_all_cnt"),
        *(f"{what}_{unit}" for what in _COUNTED.split() for unit in ("cnt", "user_num")),
    )
}
#: The tables that are joined to a log: the key, the columns, and what their files' names begin with.
_TABLES = {
    "user_features": ("user_id", _USER_COLUMNS),
    "video_features_basic": ("video_id", _VIDEO_COLUMNS),
    "video_features_statistic": ("video_id", tuple(_STATISTICS)),
}


class KuaiRand(Dataset):
    """The published files of one variant: a row is one exposure of a video to a user.

    Files lie under `<root>/data` or `<root>` itself: `log_standard_4_08_to_4_21_*.csv`,
    `log_standard_4_22_to_5_08_*.csv`, `log_random_4_22_to_5_08_*.csv`, `user_features_*.csv`,
    `video_features_basic_*.csv` and `video_features_statistic_*.csv`, those of 27k in parts (`..._part1.csv`, ...).
    Only the files that the chosen columns need must exist. Every published column is available by its name; the
    statistics' `follow_user_num`, which the users have too, as `statistic_follow_user_num`. `tag` is a list: a
    categorical feature takes its first value, a sequence all.

    The column `hour` is made from `hourmin` (1530 is 15). It, `tab` (where the video was shown) and `duration_ms` are
    known at exposure.

    Split on `date`: `time_ms` disagrees with it in a share of the rows.

    Args:
        root: The folder of the published archive.
        variant: `pure`, `1k` or `27k`.
        logs: Which standard logs to use, of `4_08_to_4_21` and `4_22_to_5_08`; null for all that exist, but for those
            in `history.logs`.
        random_exposure: Add the split `random`: the randomly exposed rows from `split.valid_from` on.
        allow_leaky: Allow features that are known only after the labels are.

    The other arguments are those of `Dataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        variant: Literal["pure", "1k", "27k"],
        logs: Sequence[Literal["4_08_to_4_21", "4_22_to_5_08"]] | None = None,
        random_exposure: bool = False,
        allow_leaky: bool = False,
        group: Name | None = "user_id",
        item: Name | None = "video_id",
        time: Name | None = "date",
        **dataset: Inherited,
    ) -> None:
        super().__init__(group=group, item=item, time=time, **dataset)
        self.variant = variant
        self.random_exposure = random_exposure
        self.leaky = {} if allow_leaky else _leaky_columns()
        self.future_aggregates = list(_STATISTICS)
        self._root = Path(root).expanduser()
        self._logs = logs
        for name in self.history.logs:
            if name not in LOGS or name in (logs or ()):
                trained = ", that dataset.logs does not have" if name in LOGS else ""
                raise InputError(
                    f"dataset.history.logs should name standard logs, of {', '.join(LOGS)}{trained}. Received: {name}."
                )
        if random_exposure and self.split.by == "time" and self.split.valid_from is None:
            raise InputError("dataset.split.valid_from should say where validation begins. Received: none.")

    @cached_property
    def _folder(self) -> Path:
        for folder in (self._root / "data", self._root):
            if any(folder.glob(f"log_*_{self.variant}*.csv")):
                return folder
        if not self._root.is_dir():
            raise InputError(
                f"dataset.root should be the folder {VARIANTS[self.variant]} of the published archive "
                f"(https://kuairand.com). There is no folder {self._root}."
            )
        others = [variant for variant in VARIANTS if any(self._root.glob(f"**/log_*_{variant}*.csv"))]
        hint = f" It is of variant {others[0]}: use dataset=kuairand_{others[0]}." if others else ""
        raise InputError(
            f"dataset.root should hold data/log_standard_{LOGS[1]}_{self.variant}.csv. {self._root} does not.{hint}"
        )

    def _find(self, stem: str, why: str) -> list[Path]:
        """Return a published file, or its parts in order."""
        whole = self._folder / f"{stem}_{self.variant}.csv"
        if whole.is_file():
            return [whole]
        pattern = re.compile(rf"{re.escape(stem)}_{re.escape(self.variant)}_part(\d+)\.csv")
        parts = {int(m[1]): path for path in self._folder.glob(f"{stem}_*") if (m := pattern.fullmatch(path.name))}
        if not parts:
            raise InputError(f"{whole} should exist: {why}. It is missing; copy it there or leave that out.")
        missing = sorted(set(range(1, max(parts) + 1)) - set(parts))
        if missing:
            raise InputError(f"{parts[max(parts)]} should have all its parts beside it. Part {missing[0]} is missing.")
        return [parts[number] for number in sorted(parts)]

    def _find_logs(self) -> list[Path]:
        names: Sequence[str] | None = self._logs
        if names is None:
            left = [name for name in LOGS if name not in self.history.logs]
            names = [name for name in left if any(self._folder.glob(f"log_standard_{name}_{self.variant}*.csv"))]
        why = "it is the log to learn from (dataset.logs)"
        wanted = [name for name in LOGS if name in (names or LOGS[1:])]
        found = [path for name in wanted for path in self._find(f"log_standard_{name}", why)]
        log.info("standard logs: %s", ", ".join(path.name for path in found))
        return found

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The files that are needed: `log`, `random`, and tables by what their names begin with."""
        files = {"log": self._find_logs()}
        if self.history.logs:
            why = "histories read it (dataset.history.logs)"
            files["earlier"] = [p for name in self.history.logs for p in self._find(f"log_standard_{name}", why)]
        if self.random_exposure:
            files["random"] = self._find(f"log_random_{RANDOM_LOG}", "dataset.random_exposure=true evaluates on it")
        for stem, (_, available) in _TABLES.items():
            if column := next((column for column in self._needed if column in available), None):
                files[stem] = self._find(stem, f"column {column} ({self._needed[column]}) is in it")
        return files

    @cached_property
    def _needed(self) -> dict[str, str]:
        return self.needed_columns()

    def sources(self) -> list[Source]:
        return [Files([path for files in self._files.values() for path in files])]

    def available_columns(self) -> list[str]:
        return [*_LOG_COLUMNS, HOUR, *_USER_COLUMNS, *_VIDEO_COLUMNS, *_STATISTICS]

    def scan_earlier(self, columns: Sequence[str]) -> list[pl.LazyFrame]:
        return [self._join(self._scan_log(self._files["earlier"]), columns)] if self.history.logs else []

    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        rows = {"all": self._scan_log(self._files["log"])}
        if self.random_exposure:
            rows["random"] = self._scan_log(self._files["random"])
            if self.split.by == "time":
                time = self.split.column or self.time or "date"
                start = time_bound("valid_from", self.split.valid_from, time, pl.Int64())
                rows["random"] = rows["random"].filter(pl.col(time) >= start)
        return {name: self._join(log_rows, columns) for name, log_rows in rows.items()}

    def _scan_log(self, files: list[Path]) -> pl.LazyFrame:
        with reading_errors(lambda: files[0].name):
            rows = scan_files(files, ",", dict.fromkeys(_LOG_COLUMNS, pl.Int64))
            return rows.with_columns((pl.col("hourmin") // 100).alias(HOUR))

    def _join(self, rows: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
        for stem, (key, available) in _TABLES.items():
            published = {column: _STATISTICS.get(column, column) for column in columns if column in available}
            if not published:
                continue
            files = self._files[stem]
            with reading_errors(lambda files=files: files[0].name):  # type: ignore[misc]  # bound at once
                table = scan_files(files, ",")
                known = table.collect_schema().names()
                for column, name in published.items():
                    if name not in known:
                        raise InputError(
                            f"{self._needed[column]}: no such column {column} in {files[0].name}."
                            + did_you_mean(column, known)
                        )
                check_unique(table, key, str(files[0]))
                table = table.select(key, **published)
                if "tag" in published:
                    table = table.with_columns(_as_list(pl.col("tag")))
                # Few distinct texts, repeated over all rows of the log: numbers in their place are joined faster.
                table = table.with_columns(pl.col(pl.String).cast(pl.Categorical))
            rows = rows.join(table, on=key, how="left", maintain_order="left")
        return rows


def _as_list(tag: pl.Expr) -> pl.Expr:
    """Return `"12,65"` as a list of numbers."""
    return tag.cast(pl.String).str.split(",").list.eval(pl.element().cast(pl.Int64, strict=False)).list.drop_nulls()


def _leaky_columns() -> dict[str, str]:
    reasons = {column: f"it tells whether the row ended in a {what}" for column, what in _FEEDBACK.items()}
    reasons["play_time_ms"] = "it is how long the video was watched, which is_click and long_view are computed from"
    for column in ("profile_stay_time", "comment_stay_time"):
        reasons[column] = "it is how long the user stayed after the exposure"
    for column in _STATISTICS:
        reasons[column] = "it is averaged over the whole month, the validation days' feedback included"
    return reasons
