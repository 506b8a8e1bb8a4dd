"""The Open Bandit Dataset (Saito et al., NeurIPS 2021, datasets and benchmarks): choices with their propensities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from funrec.data.datasets.base import Dataset
from funrec.data.datasets.files import reading_errors
from funrec.data.datasets.sources import Source, open_source
from funrec.utils.specs import Inherited

AFFINITY = "user-item_affinity_"
ITEM_FEATURES = tuple(f"item_feature_{place}" for place in range(4))


class OpenBandit(Dataset):
    """The published files of one logging policy and campaign: a row is one item shown at one position.

    Files lie under `<root>/<policy>/<campaign>`: `<campaign>.csv` and `item_context.csv`. Every column is available by
    its name, the item's beside the log's; `affinity` is the user's past clicks on the row's own item.

    Args:
        root: The folder of the published archive.
        policy: Who chose the items: `random`, or `bts` (Bernoulli Thompson sampling).
        campaign: `men`, `women` or `all`.

    The other arguments are those of `Dataset`.
    """

    leaky: Mapping[str, str] = {
        "propensity_score": "it is the logging policy's chance of the choice, which no other policy knows"
    }
    propensity = "propensity_score"

    def __init__(
        self,
        *,
        root: str,
        policy: Literal["random", "bts"] = "random",
        campaign: Literal["men", "women", "all"] = "men",
        **dataset: Inherited,
    ) -> None:
        self.policy, self.campaign = policy, campaign
        self._root = root
        super().__init__(**dataset)

    @cached_property
    def _files(self) -> tuple[Source, Source]:
        hint = " Get it from https://research.zozo.com/data.html."
        folder = Path(self._root) / self.policy / self.campaign
        names = (f"{self.campaign}.csv", "item_context.csv")
        log, items = (open_source("dataset.root", str(folder / name), None, hint) for name in names)
        return log, items

    def sources(self) -> list[Source]:
        return list(self._files)

    @cached_property
    def _items(self) -> pl.DataFrame:
        with reading_errors(lambda: self._files[1].name):
            return self._files[1].scan().select("item_id", *ITEM_FEATURES).collect()

    def available_columns(self) -> list[str]:
        with reading_errors(lambda: self._files[0].name):
            names = self._files[0].scan().collect_schema().names()
        return [*(name for name in names if name), *ITEM_FEATURES, "affinity"]

    def scan(self, columns: Sequence[str], workdir: Path) -> dict[str, pl.LazyFrame]:
        log = self._files[0].scan()
        affinities = [name for name in log.collect_schema().names() if name.startswith(AFFINITY)]
        own = pl.concat_list(affinities).list.get(pl.col("item_id"), null_on_oob=True)
        rows = log.join(self._items.lazy(), on="item_id", how="left", maintain_order="left")
        return {"all": rows.with_columns(own.alias("affinity"))}

    def offers(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        for item in self._items.iter_rows(named=True):
            known = [pl.lit(value).alias(name) for name, value in item.items()]
            affinity = pl.col(f"{AFFINITY}{item['item_id']}").alias("affinity")
            yield item["item_id"], rows.with_columns(*known, affinity)
