"""A small log of a news application, generated: what the tutorial's multi-task example needs, without a download."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from funrec.data.datasets.sources import Source
from funrec.utils.specs import PositiveInt, WholeNumber

HOUR_MS = 3_600_000
START_MS = 1_507_000_000_000
DAYS = 14
CATEGORIES = 25


class GeneratedNews(Source):
    """Exposures of articles to users in time order, with the columns of the Tianchi news log joined with its articles.

    Users like some categories and either short or long articles; a click depends on both, on an article's quality, and
    falls with its age. What users, articles and categories did is counted over earlier rows alone.

    Args:
        rows: Number of exposures.
        users: Number of users.
        articles: Number of articles.
        seed: Determines all values.
    """

    def __init__(
        self, rows: PositiveInt = 60_000, users: PositiveInt = 2_000, articles: PositiveInt = 600, seed: WholeNumber = 0
    ) -> None:
        self.rows, self.users, self.articles, self.seed = rows, users, articles, seed

    @property
    def parts(self) -> list[str]:
        return ["the generated news log"]

    def identity(self) -> list[Any]:
        return ["news log 1", self.rows, self.users, self.articles, self.seed]

    def scan(self) -> pl.LazyFrame:
        draw = np.random.default_rng(self.seed)
        user, article = draw.integers(0, self.users, self.rows), draw.integers(0, self.articles, self.rows)
        time = START_MS + np.sort(draw.integers(0, DAYS * 24 * HOUR_MS, self.rows))
        category = draw.integers(0, CATEGORIES, self.articles)
        words = np.exp(draw.normal(5.6, 0.5, self.articles)).astype(np.int64)
        created = START_MS - draw.integers(0, 5 * 24 * HOUR_MS, self.articles)
        taste, reader = draw.normal(0, 0.9, (self.users, CATEGORIES)), draw.normal(0, 0.8, self.users)
        devices, regions = draw.integers(1, 6, self.users), draw.integers(1, 29, self.users)
        logit = (
            taste[user, category[article]]
            + reader[user] * np.log(words[article] / 270)
            + draw.normal(0, 0.8, self.articles)[article]
            - 0.1 * (time - created[article]) / (24 * HOUR_MS)
            - 1.0
        )
        log = pl.DataFrame(
            {
                "user_id": user,
                "click_article_id": article,
                "click_timestamp": time,
                "click_deviceGroup": devices[user],
                "click_region": regions[user],
                "category_id": category[article],
                "created_at_ts": created[article],
                "words_count": words[article],
                "clicked": (draw.random(self.rows) < 1 / (1 + np.exp(-logit))).astype(np.int8),
            }
        )
        return log.with_columns(
            hour=pl.col("click_timestamp") // HOUR_MS % 24,
            article_age_hours=(pl.col("click_timestamp") - pl.col("created_at_ts")) / HOUR_MS,
            user_gap_hours=pl.col("click_timestamp").diff().over("user_id").fill_null(24 * HOUR_MS) / HOUR_MS,
            user_exposures=pl.int_range(pl.len()).over("user_id"),
            user_clicks=_earlier(pl.col("clicked"), "user_id"),
            article_exposures=pl.int_range(pl.len()).over("click_article_id"),
            article_clicks=_earlier(pl.col("clicked"), "click_article_id"),
            category_clicks=_earlier(pl.col("clicked"), "category_id"),
            user_category_clicks=_earlier(pl.col("clicked"), "user_id", "category_id"),
        ).lazy()


def _earlier(value: pl.Expr, *by: str) -> pl.Expr:
    """Return a value's sum over the earlier rows of the same key."""
    value = value.cast(pl.Int64)
    return value.cum_sum().over(by) - value
