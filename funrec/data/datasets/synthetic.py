"""A made-up short-video log that knows each label's true probability."""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from funrec.data.datasets import population
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.sources import Source
from funrec.data.hashing import uniform
from funrec.utils.errors import InputError
from funrec.utils.specs import Inherited, WholeNumber, between, whole

LABELS = ("is_click", "long_view", "is_like", "is_follow")
TRUTHS = (
    *("p_is_click", "p_long_view", "p_is_like", "p_is_follow"),
    *("p_long_view_given_is_click", "p_is_like_given_is_click", "p_is_follow_given_is_click"),
    *("p_is_follow_given_is_like", "p_is_follow_given_no_like"),
)
FIRST_DAY = datetime.date(2022, 4, 25)
ROWS_FOR_CALIBRATION = (2**18, 2**20)
#: Polars keeps a number of row groups in flight, so their size bounds the memory that reading the rows takes.
ROWS_PER_GROUP = 2**14
#: Part of the fingerprint of prepared data: raise it with any change to the rows that a seed makes.
RECIPE = 1
COLUMNS = (
    "date",
    *("user_id", "user_active_degree", "is_live_streamer", "is_video_author", "follow_user_num_range"),
    *("fans_user_num_range", "friend_user_num_range", "register_days_range"),
    *("video_id", "author_id", "video_type", "upload_type", "music_id", "music_type", "tag", "tab"),
    *LABELS,
    *TRUTHS,
)


Count = Annotated[int, whole(1)]
Chance = Annotated[float, between(0, 1, strictly=True)]


class Generated(Dataset):
    """Rows that are a function of a seed and of their number."""

    rows: int
    #: What is in memory at once.
    rows_per_file = 2**18

    @abstractmethod
    def generate(self, start: int, rows: int) -> pl.DataFrame:
        """Return rows `start` to `start + rows` with all columns, a function of the seed and the row number alone."""

    def sources(self) -> list[Source]:
        return []

    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        paths = []
        for start in range(0, self.rows, self.rows_per_file):
            paths.append(workdir / f"rows_{start:015d}.parquet")
            frame = self.generate(start, min(self.rows_per_file, self.rows - start))
            wanted = [name for name in frame.columns if name in columns]
            frame.select(wanted).write_parquet(paths[-1], compression="lz4", row_group_size=ROWS_PER_GROUP)
        return {"all": pl.scan_parquet(paths)}


class Synthetic(Generated):
    """Exposures of videos to users, in KuaiRand's column names (Gao et al., CIKM 2022), with planted truth.

    Four scores of an exposure, each of variance 1 and uncorrelated, are sums of what its user, video and tab bring
    and of how well the tastes of user and video match: interest, patience, fondness and loyalty. With `s` for
    `signal_strength`, `b` for `selection_bias` and an intercept `a` each, set so that the rates are met:

        P(is_click)             = sigmoid(a + s * (sqrt(1 - b^2) * interest + b * fondness))
        P(long_view | click)    = sigmoid(a + s * (0.6 * interest + 0.8 * patience))
        P(is_like | click)      = sigmoid(a + s * fondness)
        P(is_follow | click, l) = sigmoid(a + s * loyalty + follow_after_like * l)     l = 1 after a like, else 0

    Without a click the other three are 0. Nothing else is random, and every score is a function of user_id, video_id
    and tab, and with `drift` of the day. So no model can rank better than the columns of true probability:
    `p_is_click`, `p_long_view`, `p_is_like`, `p_is_follow` over exposures, and on every exposure, clicked or not,
    `p_long_view_given_is_click`, `p_is_like_given_is_click`, `p_is_follow_given_is_click`,
    `p_is_follow_given_is_like` and `p_is_follow_given_no_like`.

    Args:
        rows: Number of exposures.
        users: Number of users; their activity is log-normal.
        videos: Number of videos; their popularity is Zipf's.
        days: Number of days, the first of which is 25 April 2022. Every row falls on any of them with equal chance.
        click_rate: Share of exposures with a click.
        long_view_rate: Share of exposures with a long view.
        like_rate: Share of exposures with a like.
        follow_rate: Share of exposures with a follow.
        follow_after_like: Log-odds that a like adds to a follow.
        selection_bias: Correlation, over exposures, of the logit of a click with that of a like given a click, in
            [-1, 1]. At 0 clicked exposures are as likeable as others; the more, the more clicks are a biased sample.
        signal_strength: Standard deviation of each logit.
        taste_strength: Share of a score's variance that comes from the match of tastes, in [0, 1]: what no sum
            of effects of user and video can express.
        taste_dim: Length of the taste vectors, per score.
        drift: How much users change: their effects and tastes keep a correlation of `1 - drift` from one day to the
            next, so that what a user did lately says more than the user's id. In [0, 1].
        zipf_exponent: The video of popularity rank r is shown in proportion to `r ** -zipf_exponent`.
        seed: Everything is a function of it. Row i is the same whatever `rows` is.

    The other arguments are those of `Dataset`; `split.valid_from`, where not given, is the start of the last fifth
    of the days.
    """

    leaky = dict.fromkeys(TRUTHS, "it is the true probability that a model should find")
    future_aggregates = TRUTHS

    def __init__(
        self,
        *,
        split: Mapping[str, Any],
        rows: Count = 400_000,
        users: Count = 3_000,
        videos: Count = 2_000,
        days: Count = 10,
        click_rate: Chance = 0.4,
        long_view_rate: Chance = 0.28,
        like_rate: Chance = 0.025,
        follow_rate: Chance = 0.004,
        follow_after_like: Annotated[float, between(-10, 10)] = 2.0,
        selection_bias: Annotated[float, between(-1, 1)] = 0.3,
        signal_strength: Annotated[float, between(0, 10)] = 1.3,
        taste_strength: Annotated[float, between(0, 1)] = 0.25,
        taste_dim: Count = 1,
        drift: Annotated[float, between(0, 1)] = 0.0,
        zipf_exponent: Annotated[float, between(0, 10)] = 0.7,
        seed: WholeNumber = 0,
        **dataset: Inherited,
    ) -> None:
        nested = {"long_view_rate": long_view_rate, "like_rate": like_rate, "follow_rate": follow_rate}
        for name, rate in nested.items():
            if rate >= click_rate:
                raise InputError(
                    f"dataset.{name} should be below dataset.click_rate, {click_rate}, for there is none without a "
                    f"click. Received: {rate}."
                )
        self.rows, self.users, self.videos, self.days = rows, users, videos, days
        self.rates = dict(zip(LABELS, (click_rate, *nested.values()), strict=True))
        self.follow_after_like, self.selection_bias = follow_after_like, selection_bias
        self.signal_strength, self.taste_strength, self.taste_dim = signal_strength, taste_strength, taste_dim
        self.drift, self.zipf_exponent, self.seed = drift, zipf_exponent, seed
        self.dates = np.array(
            [int(f"{FIRST_DAY + datetime.timedelta(days=day):%Y%m%d}") for day in range(days)], dtype=np.int32
        )
        if split.get("by") == "time" and split.get("valid_from") is None:
            if days < 2:
                raise InputError("dataset.days should be at least 2 to split by time. Received: 1.")
            split = {**split, "valid_from": int(self.dates[-max(1, days // 5)])}
        super().__init__(split=split, **dataset)
        self.recipe = RECIPE
        self.oracle = self._find_oracle()

    def settings(self) -> dict[str, Any]:
        """Return what determines the rows; `drift`, which came later, is left out where users stay as they are."""
        return {key: value for key, value in super().settings().items() if key != "drift" or value}

    def available_columns(self) -> list[str]:
        return list(COLUMNS)

    def generate(self, start: int, rows: int) -> pl.DataFrame:
        numbers = np.arange(start, start + rows, dtype=np.uint64)
        draw = {site: uniform(numbers, self.seed, site) for site in ("user", "video", "tab", "day", *LABELS)}
        index = tuple(side.draw(draw[site]) for site, side in zip(draw, self._sides, strict=False))
        day = (draw["day"] * self.days).astype(np.intp)
        truth = self._probabilities(self._scores(index, day))
        is_click = draw["is_click"] < truth["p_is_click"]
        is_like = is_click & (draw["is_like"] < truth["p_is_like_given_is_click"])
        follow = np.where(is_like, truth["p_is_follow_given_is_like"], truth["p_is_follow_given_no_like"])
        labels = {
            "is_click": is_click,
            "long_view": is_click & (draw["long_view"] < truth["p_long_view_given_is_click"]),
            "is_like": is_like,
            "is_follow": is_click & (draw["is_follow"] < follow),
        }
        columns: dict[str, Any] = {"date": self.dates[day]}
        for side, rows_of_side in zip(self._sides, index, strict=True):
            columns |= {name: values.gather(rows_of_side) for name, values in side.columns.items()}
        columns |= {name: values.astype(np.int8) for name, values in labels.items()}
        return pl.DataFrame(columns | truth)

    @cached_property
    def _sides(self) -> tuple[population.Side, population.Side, population.Side]:
        users, videos, tabs = np.random.default_rng([self.seed, 1]).spawn(3)
        return (
            population.draw_users(users, self.users, self.taste_dim),
            population.draw_videos(videos, self.videos, self.taste_dim, self.zipf_exponent),
            population.draw_tabs(tabs),
        )

    @cached_property
    def _users_by_day(self) -> population.Side:
        return self._sides[0].over_days(self.days, self.drift, np.random.default_rng([self.seed, 2]))

    def _scores(self, index: tuple[NDArray[np.intp], ...], day: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the four scores of exposures, `(rows, scores)`, by the places of user, video and tab, and the day."""
        users, videos, tabs = self._sides
        if self.drift:
            users, index = self._users_by_day, (index[0] + day * self.users, *index[1:])
        return population.scores((users, videos, tabs), index, self.taste_strength)

    def _logits(self, scores: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        interest, patience, fondness, loyalty = scores.T * np.float32(self.signal_strength)
        bias = self.selection_bias
        return {
            "is_click": np.float32(np.sqrt(1 - bias**2)) * interest + np.float32(bias) * fondness,
            "long_view": np.float32(0.6) * interest + np.float32(0.8) * patience,
            "is_like": fondness,
            "is_follow": loyalty,
        }

    @cached_property
    def _intercepts(self) -> dict[str, np.float32]:
        """Intercepts that meet the rates over this population's exposures, by bisection."""
        # A lattice (Roberts' R2 sequence and an even grid) covers the exposures more evenly than random rows would.
        count = np.arange(np.clip(self.users + self.videos, *ROWS_FOR_CALIBRATION))
        lattice = [(count + 0.5) / len(count), count * 0.7548776662466927 % 1, count * 0.5698402909980532 % 1]
        index = tuple(side.draw(points) for side, points in zip(self._sides, lattice, strict=True))
        logits = self._logits(self._scores(index, np.arange(len(count)) % self.days))
        found = {"is_click": _solve(lambda a: sigmoid(logits["is_click"] + a), self.rates["is_click"])}
        click = sigmoid(logits["is_click"] + found["is_click"])
        found["long_view"] = _solve(lambda a: click * sigmoid(logits["long_view"] + a), self.rates["long_view"])
        found["is_like"] = _solve(lambda a: click * sigmoid(logits["is_like"] + a), self.rates["is_like"])
        like = sigmoid(logits["is_like"] + found["is_like"])
        boost, loyalty = np.float32(self.follow_after_like), logits["is_follow"]
        found["is_follow"] = _solve(
            lambda a: click * (like * sigmoid(loyalty + a + boost) + (1 - like) * sigmoid(loyalty + a)),
            self.rates["is_follow"],
        )
        return found

    def _probabilities(self, scores: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        logits = {label: logit + self._intercepts[label] for label, logit in self._logits(scores).items()}
        click, long_view, like = (sigmoid(logits[label]) for label in LABELS[:3])
        after_like = sigmoid(logits["is_follow"] + np.float32(self.follow_after_like))
        after_none = sigmoid(logits["is_follow"])
        follow = like * after_like + (1 - like) * after_none
        return {
            "p_is_click": click,
            "p_long_view": click * long_view,
            "p_is_like": click * like,
            "p_is_follow": click * follow,
            "p_long_view_given_is_click": long_view,
            "p_is_like_given_is_click": like,
            "p_is_follow_given_is_click": follow,
            "p_is_follow_given_is_like": after_like,
            "p_is_follow_given_no_like": after_none,
        }

    def _find_oracle(self) -> dict[str, str]:
        """Map each task to the column of its true probability; an expression of the user's own as a label has none."""
        if self.where is not None and set(self.parse("dataset.where", self.where).columns) & set(LABELS):
            return {}  # rows chosen by their labels have other probabilities
        oracle = {}
        for task in self.tasks:
            if task.kind != "binary" or task.label not in LABELS:
                continue
            where = None if task.where is None else self.parse(f"dataset.tasks.{task.name}.where", task.where)
            if where is None or not set(where.columns) & set(LABELS):
                oracle[task.name] = f"p_{task.label}"
            elif task.label != "is_click" and where.expr.meta.eq(pl.sql_expr("is_click = 1")):
                oracle[task.name] = f"p_{task.label}_given_is_click"
        return oracle


def _solve(probabilities: Callable[[np.float32], NDArray[np.float32]], rate: float) -> np.float32:
    """Return the intercept at which the mean probability is `rate`; the mean must rise with it."""
    low, high = -100.0, 100.0
    for _ in range(30):
        middle = (low + high) / 2
        if probabilities(np.float32(middle)).mean(dtype=np.float64) < rate:
            low = middle
        else:
            high = middle
    return np.float32(low)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `1 / (1 + exp(-logits))`, in a form that cannot overflow."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
