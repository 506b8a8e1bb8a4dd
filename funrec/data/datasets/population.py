"""Made-up users and videos: who they are, how often they meet, and what each thinks of the other.

An exposure draws its user, video and tab independently, each in proportion to its own share of exposures. Over
exposures everything here is exact: effects have mean 0, variance 1 and no correlation between scores, and so has the
match of two tastes, which is uncorrelated with every effect too. Hence the scores' variance of 1 and correlation of 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: What drives a click, a long view after it, a like after it, and a follow after it.
SCORES = ("interest", "patience", "fondness", "loyalty")
INTEREST, PATIENCE, FONDNESS, LOYALTY = range(len(SCORES))

#: Features with text values: the levels from the lowest trait to the highest, and the share of each.
LEVELS = {
    "user_active_degree": ("low_active middle_active high_active full_active", (0.1, 0.2, 0.3, 0.4)),
    "follow_user_num_range": (
        "0 (0,10] (10,50] (50,100] (100,150] (150,250] (250,500] 500+",
        (0.04, 0.08, 0.18, 0.15, 0.1, 0.13, 0.16, 0.16),
    ),
    "fans_user_num_range": ("0 [1,10) [10,100) [100,1k) [1k,5k)", (0.05, 0.2, 0.35, 0.3, 0.1)),
    "friend_user_num_range": (
        "0 [1,5) [5,30) [30,60) [60,120) [120,250) 250+",
        (0.12, 0.2, 0.26, 0.12, 0.1, 0.09, 0.11),
    ),
    "register_days_range": (
        "15-30 31-60 61-90 91-180 181-365 366-730 730+",
        (0.04, 0.06, 0.06, 0.1, 0.14, 0.2, 0.4),
    ),
    "video_type": ("AD NORMAL", (0.05, 0.95)),
    "upload_type": (
        "PictureSet LongPicture ShortCamera ShortImport Web Kmovie LongCamera LongImport",
        (0.05, 0.05, 0.1, 0.2, 0.3, 0.1, 0.05, 0.15),
    ),
    "music_type": ("4 7 8 9", (0.2, 0.1, 0.2, 0.5)),
}
TAB_SHARES = {1: 0.6, 0: 0.15, 4: 0.1, 6: 0.1, 2: 0.05}
VIDEOS_PER_AUTHOR = 4
VIDEOS_PER_MUSIC = 8
NUM_TAGS = 40


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an exposure: all users, all videos or all tabs.

    Attributes:
        columns: The raw columns of each, `size` rows.
        exposure: Cumulative share of exposures, `(size,)`, ending in 1.
        effect: What each adds to the four scores on its own, `(size, scores)`.
        taste: What each adds by meeting the other side's taste, `(size, scores, taste_dim)`.
    """

    columns: dict[str, pl.Series]
    exposure: NDArray[np.float64]
    effect: NDArray[np.float32]
    taste: NDArray[np.float32]

    def over_days(self, days: int, drift: float, random: np.random.Generator) -> Side:
        """Return the side with effects and tastes of every day: those of day `d` begin at row `d * size`.

        From one day to the next they keep a correlation of `1 - drift`, and their means and variances.
        """
        weights = np.diff(self.exposure, prepend=0.0)
        keep, change = np.float32(1 - drift), np.float32(np.sqrt(1 - (1 - drift) ** 2))
        effects: list[NDArray[np.float32]] = [self.effect]
        tastes: list[NDArray[np.float32]] = [self.taste]
        for _ in range(1, days):
            shape = len(self.effect), self.taste[0].size
            effect, taste = _finish(random.standard_normal(self.effect.shape), random.standard_normal(shape), weights)
            effects.append(keep * effects[-1] + change * effect)
            tastes.append(keep * tastes[-1] + change * taste)
        return replace(self, effect=np.concatenate(effects), taste=np.concatenate(tastes))

    def draw(self, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return who is exposed, by inverting the cumulative share; uniforms in [0, 1)."""
        return np.searchsorted(self.exposure, uniforms, side="right")


def draw_users(random: np.random.Generator, size: int, taste_dim: int) -> Side:
    """Return users with skewed activity, whose profile columns are cut from their traits."""
    activity = random.standard_normal(size)
    weights = np.exp(0.8 * activity)
    effect = random.standard_normal((size, len(SCORES)))
    effect[:, INTEREST] = 0.6 * activity + 0.8 * effect[:, INTEREST]
    taste = random.standard_normal((size, len(SCORES) * taste_dim))
    effects, tastes = _finish(effect, taste, weights)
    columns = {
        "user_id": pl.Series(np.arange(size, dtype=np.int32)),
        "user_active_degree": _cut("user_active_degree", activity),
        "is_live_streamer": pl.Series((effects[:, FONDNESS] > 1.0).astype(np.int8)),
        "is_video_author": pl.Series((effects[:, PATIENCE] > -0.5).astype(np.int8)),
        "follow_user_num_range": _cut("follow_user_num_range", tastes[:, FONDNESS, 0]),
        "fans_user_num_range": _cut("fans_user_num_range", effects[:, LOYALTY]),
        "friend_user_num_range": _cut("friend_user_num_range", tastes[:, INTEREST, 0]),
        "register_days_range": _cut("register_days_range", tastes[:, PATIENCE, 0]),
    }
    return Side(columns, _cumulative(weights), effects, tastes)


def draw_videos(random: np.random.Generator, size: int, taste_dim: int, zipf_exponent: float) -> Side:
    """Return videos with Zipf popularity; an author, a tag and a music are shared by videos that are alike."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -zipf_exponent
    random.shuffle(weights)  # so that an id says nothing about popularity
    author = random.integers(max(1, size // VIDEOS_PER_AUTHOR), size=size, dtype=np.int32)
    music = random.integers(max(1, size // VIDEOS_PER_MUSIC), size=size, dtype=np.int32)
    tag = random.integers(NUM_TAGS, size=size, dtype=np.int32)
    effect = random.standard_normal((size, len(SCORES)))
    effect += random.standard_normal((int(author.max()) + 1, len(SCORES)))[author]
    effect[:, FONDNESS] += random.standard_normal(int(music.max()) + 1)[music]
    taste = random.standard_normal((size, len(SCORES) * taste_dim))
    taste += 2.0 * random.standard_normal((NUM_TAGS, len(SCORES) * taste_dim))[tag]
    effects, tastes = _finish(effect, taste, weights)
    columns = {
        "video_id": pl.Series(np.arange(size, dtype=np.int32)),
        "author_id": pl.Series(author),
        "video_type": _cut("video_type", effects[:, INTEREST]),
        "upload_type": _cut("upload_type", effects[:, PATIENCE]),
        "music_id": pl.Series(music),
        "music_type": _cut("music_type", effects[:, FONDNESS]),
        "tag": pl.Series(tag),
    }
    return Side(columns, _cumulative(weights), effects, tastes)


def draw_tabs(random: np.random.Generator) -> Side:
    """Return the app's tabs, which have effects and no taste."""
    weights = np.array(list(TAB_SHARES.values()))
    effect = whiten(random.standard_normal((len(weights), len(SCORES))), weights)
    columns = {"tab": pl.Series(np.array(list(TAB_SHARES), dtype=np.int8))}
    return Side(columns, _cumulative(weights), effect, np.zeros((len(weights), len(SCORES), 0), np.float32))


def scores(
    sides: tuple[Side, Side, Side], rows: tuple[NDArray[np.intp], ...], taste_strength: float
) -> NDArray[np.float32]:
    """Return the four scores of each exposure, `(rows, scores)`, each of mean 0 and variance 1 over exposures.

    Args:
        sides: Users, videos and tabs.
        rows: Which user, video and tab each row has.
        taste_strength: Share of a score's variance that comes from the match of the two tastes; of the rest, users
            bring 45%, videos 50% and tabs 5%.
    """
    total = np.zeros((len(rows[0]), len(SCORES)), np.float32)
    for side, index, share in zip(sides, rows, (0.45, 0.5, 0.05), strict=True):
        total += np.float32(np.sqrt((1 - taste_strength) * share)) * side.effect[index]
    users, videos, _ = sides
    match = np.einsum("rkd,rkd->rk", users.taste[rows[0]], videos.taste[rows[1]])
    return total + np.float32(np.sqrt(taste_strength / users.taste.shape[2])) * match


def whiten(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return linear mixes of the columns with weighted mean 0, variance 1 and no correlation, first column first."""
    values = values - np.average(values, axis=0, weights=weights)
    covariance = (values * (weights / weights.sum())[:, None]).T @ values
    # The ridge keeps this defined for fewer rows than columns.
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance)))
    return np.linalg.solve(root, values.T).T.astype(np.float32, order="C")


def _finish(
    effect: NDArray[np.float64], taste: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return whitened effects and tastes, `(size, scores)` and `(size, scores, taste_dim)`, that have much in common.

    A video liked by many is often liked for its kind, so an effect leans on the first taste.
    """
    flat = whiten(taste, weights)
    tastes = flat.reshape(len(flat), len(SCORES), -1)
    return whiten(0.8 * whiten(effect, weights) + 0.6 * tastes[:, :, 0], weights), tastes


def _cumulative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    cumulative[-1] = 1.0
    return cumulative


def _cut(column: str, trait: NDArray[np.floating]) -> pl.Series:
    """Return text levels of a trait, so that who is new still says something about themselves."""
    names, shares = LEVELS[column]
    bounds = np.quantile(trait, np.cumsum(shares)[:-1])
    return pl.Series(names.split()).gather(np.searchsorted(bounds, trait))
