"""Customers who did or did not get an e-mail, generated: a visit, a purchase during it, and what was spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from funrec.data.datasets.sources import Source
from funrec.utils.specs import PositiveInt, WholeNumber

SEGMENTS = {100: "1) $0 - $100", 200: "2) $100 - $200", 350: "3) $200 - $350", 500: "4) $350 - $500"}
SEGMENTS |= {750: "5) $500 - $750", 1000: "6) $750 - $1,000"}
LARGEST = "7) $1,000 +"


class GeneratedMailing(Source):
    """Customers with the columns and about the rates of the MineThatData challenge: 15% visit, 1% buy, for $110 each.

        P(visit)         = sigmoid(-2.2 + mail fits the customer's past + past spend - recency)
        P(buy | visit)   = sigmoid(-2.9 + past spend - newbie)
        log(spend | buy) ~ Normal(4.2 + 0.3 past spend, 0.9)       dollars; past spend in standard deviations of its log

    Args:
        rows: Number of customers.
        seed: Determines all values.
    """

    def __init__(self, rows: PositiveInt = 64_000, seed: WholeNumber = 0) -> None:
        self.rows, self.seed = rows, seed

    @property
    def parts(self) -> list[str]:
        return ["the generated mailing"]

    def identity(self) -> list[Any]:
        return ["mailing 1", self.rows, self.seed]

    def scan(self) -> pl.LazyFrame:
        draw = np.random.default_rng(self.seed)

        def choose(values: list[str], chances: list[float]) -> Any:
            return draw.choice(values, self.rows, p=chances)

        past, recency = draw.normal(size=self.rows), draw.integers(1, 13, self.rows)
        history = np.maximum(29.99, np.exp(5.0 + past)).round(2)
        bought = draw.choice(3, self.rows, p=[0.45, 0.45, 0.1])  # men's, women's, both
        newbie = draw.integers(0, 2, self.rows)
        mail = choose(["Mens E-Mail", "Womens E-Mail", "No E-Mail"], [1 / 3, 1 / 3, 1 / 3])
        fits = ((mail == "Mens E-Mail") & (bought != 1)) | ((mail == "Womens E-Mail") & (bought != 0))
        visit = draw.random(self.rows) < expit(-2.2 + 0.7 * fits + 0.25 * past - 0.06 * (recency - 6))
        conversion = visit & (draw.random(self.rows) < expit(-2.9 + 0.4 * past - 0.3 * newbie))
        spend = np.where(conversion, np.exp(4.2 + 0.3 * past + 0.9 * draw.normal(size=self.rows)), 0.0).round(2)
        place = np.searchsorted(list(SEGMENTS), history, side="right")
        return pl.LazyFrame(
            {
                "recency": recency,
                "history_segment": np.array([*SEGMENTS.values(), LARGEST])[place],
                "history": history,
                "mens": (bought != 1).astype(int),
                "womens": (bought != 0).astype(int),
                "zip_code": choose(["Surburban", "Urban", "Rural"], [0.45, 0.4, 0.15]),  # spelt as published
                "newbie": newbie,
                "channel": choose(["Web", "Phone", "Multichannel"], [0.44, 0.44, 0.12]),
                "segment": mail,
                "visit": visit.astype(int),
                "conversion": conversion.astype(int),
                "spend": spend,
            }
        )
