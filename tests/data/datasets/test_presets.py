"""Presets of public tables: a few rows in each one's published layout become features, labels and splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from commands import Command

from funrec.config.build import build
from funrec.config.compose import compose
from funrec.data.arrays import PreparedData
from funrec.data.datasets.base import Dataset
from funrec.data.datasets.news import GeneratedNews
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

CONF = Path(__file__).parents[3] / "conf" / "dataset"
ROWS = 200


def prepared(place: Path, name: str, *overrides: str) -> PreparedData:
    config = compose([f"dataset={name}", f"dataset.root={place}", *overrides])
    return prepare(build(config["dataset"], Dataset, "dataset"), place / "cache")


def drawn(**most: int) -> pl.DataFrame:
    """Columns of whole numbers from 0 up to and without the number given."""
    draw = np.random.default_rng(0)
    return pl.DataFrame({name: draw.integers(0, values, ROWS) for name, values in most.items()})


def labels(data: PreparedData, split: str, task: int) -> list[float]:
    return data.splits[split].labels[:, task].tolist()


def test_census_is_read_without_a_header_and_with_blanks_before_its_values(tmp_path: Path) -> None:
    names = yaml.safe_load((CONF / "census.yaml").read_text())["columns"]
    ages, wed, rich = np.arange(ROWS) % 90, np.arange(ROWS) % 3 == 0, np.arange(ROWS) % 4 == 0
    for file in ("census-income.data", "census-income.test"):
        with (tmp_path / file).open("w") as stream:
            for row in range(ROWS):
                values = {name: f"{name} {row % 5}" for name in names} | {
                    **dict.fromkeys(("wage_per_hour", "capital_gains", "capital_losses", "dividends"), str(row)),
                    **{"age": str(ages[row]), "persons_worked_for_employer": "3", "weeks_worked": str(row % 53)},
                    "marital_status": "Divorced" if wed[row] else "Never married",
                    "income": "50000+." if rich[row] else "- 50000.",
                }
                stream.write(", ".join(values[name] for name in names) + "\n")
    data = prepared(tmp_path, "census")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": ROWS, "valid": ROWS}
    assert labels(data, "valid", 0) == rich.tolist()
    assert labels(data, "train", 1) == (~wed).tolist()
    with pytest.raises(
        InputError, match=r"should name every column of .*, whose first row has 42 fields. Received: 2 "
    ):
        prepared(tmp_path, "census", "dataset.columns=[age,income]")


def test_aliexpress_counts_a_purchase_over_all_exposures(tmp_path: Path) -> None:
    table = drawn(search_id=40, **{f"categorical_{n}": 9 for n in range(1, 17)}, click=2)
    numbers = np.random.default_rng(1).normal(size=(ROWS, 63))
    table = table.with_columns(**{f"numerical_{n}": numbers[:, n - 1] for n in range(1, 64)})
    table = table.with_columns(conversion=pl.col("click") * (pl.col("categorical_1") > 4).cast(pl.Int64))
    for file in ("train.csv", "test.csv"):
        table.write_csv(tmp_path / file)
    data = prepared(tmp_path, "aliexpress")
    assert (len(data.layout.id_features), len(data.layout.numeric_features)) == (16, 63)
    assert labels(data, "valid", 1) == table["conversion"].to_list()


def test_tenrec_refuses_its_counts_of_watching(tmp_path: Path) -> None:
    names = {"user_id": 20, "item_id": 30, "click": 2, "follow": 2, "like": 2, "share": 2}
    drawn(**names, video_category=3, watching_times=5, gender=3, age=8).write_csv(tmp_path / "QK-video.csv")
    data = prepared(tmp_path, "tenrec")
    assert set(data.splits) == {"train", "valid", "test"}
    with pytest.raises(InputError, match=r"watching_times is not: it counts how often"):
        prepared(tmp_path, "tenrec", "+dataset.features.watching_times={kind: numeric}")


def write_movielens(place: Path) -> pl.DataFrame:
    ratings = drawn(userId=20, movieId=6, rating=10, timestamp=400)
    ratings = ratings.with_columns(pl.col("rating") / 2 + 0.5, pl.col("timestamp") * 86_400 + 1_466_000_000)
    ratings.write_csv(place / "ratings.csv")
    films = {"movieId": range(6), "title": [f"Film, the {n} (1999)" for n in range(6)]}
    genres = ["Comedy", "Comedy|Drama", "Drama", "(no genres listed)", "Drama|War|Comedy", "War"]
    pl.DataFrame({**films, "genres": genres}).write_csv(place / "movies.csv")
    return ratings


def test_movielens_rates_and_likes_and_knows_the_genres_of_its_films(tmp_path: Path) -> None:
    ratings = write_movielens(tmp_path)
    data = prepared(tmp_path, "movielens")
    train = ratings.filter(pl.col("timestamp") < 1483228800)
    assert labels(data, "train", 0) == train["rating"].to_list()
    assert labels(data, "train", 1) == (train["rating"] >= 4).to_list()
    genres = [None, *data.vocabularies["genres"].keys.to_list()]
    ids = [row for row, film in enumerate(train["movieId"]) if film == 4][:1]
    found = data.splits["train"].sequences["genres"].padded(ids, 10)[0]
    assert [genres[genre] for genre in found if genre >= 0] == ["Drama", "War", "Comedy"]


def test_a_joined_table_that_repeats_a_key_or_lacks_it_is_refused(tmp_path: Path) -> None:
    write_movielens(tmp_path)
    with pytest.raises(InputError, match=r"dataset.tables: no such column movie in ratings.csv. Did you mean movieId"):
        prepared(tmp_path, "movielens", "dataset.tables=[{path: movies.csv, column: movie}]")
    with pytest.raises(InputError, match=r"no such column movieid in movies.csv"):
        prepared(tmp_path, "movielens", "dataset.tables=[{path: movies.csv, column: movieId, key: movieid}]")
    films = pl.read_csv(tmp_path / "movies.csv")
    pl.concat([films, films.head(1)]).write_csv(tmp_path / "movies.csv")
    with pytest.raises(InputError, match=r"movies.csv should hold each movieId once. 1 rows repeat one"):
        prepared(tmp_path, "movielens")


def test_criteo_attribution_counts_sales_after_a_click(tmp_path: Path) -> None:
    names = {"uid": 20, "campaign": 5, "conversion": 2, "click": 2}
    table = drawn(timestamp=30, **names, time_since_last_click=5, **{f"cat{n}": 4 for n in range(1, 10)})
    table = table.with_columns(pl.col("timestamp") * 86_400, pl.col("time_since_last_click") - 1, attribution=0)
    table.write_csv(tmp_path / "log.tsv", separator="\t")
    data = prepared(tmp_path, "criteo_attribution", "dataset.path=log.tsv")
    test = table.filter(pl.col("timestamp") >= 26 * 86_400)
    assert labels(data, "test", 1) == (test["click"] & test["conversion"]).to_list()
    with pytest.raises(InputError, match=r"Column attribution is not: it tells of a sale"):
        prepared(tmp_path, "criteo_attribution", "dataset.path=log.tsv", "+dataset.features.attribution={}")
    late = 'dataset.tasks.sale.observed_after="conversion_timestamp - timestamp"'
    table = table.with_columns(conversion_timestamp=pl.col("timestamp") + 5 * 86_400)
    table.write_csv(tmp_path / "late.tsv", separator="\t")
    known = prepared(tmp_path, "criteo_attribution", "dataset.path=late.tsv", late)
    days = table["timestamp"].to_numpy()[np.asarray(known.splits["train"].rows)] // 86_400
    sold = (table["click"] & table["conversion"]).to_numpy()[np.asarray(known.splits["train"].rows)]
    assert labels(known, "train", 1) == (sold & (days < 20)).tolist() and sold[days >= 20].any()


def test_the_news_log_counts_earlier_rows_alone_and_is_the_same_every_time() -> None:
    log = GeneratedNews(rows=3000, users=40, articles=20).scan().collect()
    assert log.equals(GeneratedNews(rows=3000, users=40, articles=20).scan().collect())
    assert log["click_timestamp"].is_sorted()
    assert 0.15 < log["clicked"].mean() < 0.5
    for row in (0, 500, 2999):
        this, before = log.row(row, named=True), log.head(row)
        own = before.filter(pl.col("user_id") == this["user_id"])
        assert (this["user_exposures"], this["user_clicks"]) == (len(own), own["clicked"].sum())
        same = own.filter(pl.col("category_id") == this["category_id"])
        assert this["user_category_clicks"] == same["clicked"].sum()


@pytest.mark.slow
def test_the_news_experiment_trains_and_summarises(funrec: Command, workdir: Path) -> None:
    small = ("dataset.source.rows=8000", "dataset.source.users=300", "trainer.epochs=1")
    done = funrec("run", "-m", "experiment=news", "model=mmoe,cgc", *small, "hydra.sweep.dir=sweep")
    assert done.code == 0, done.err
    summary = funrec("compare", "sweep", "--format", "csv").out
    assert [line.split(",")[0] for line in summary.splitlines()] == ["model", "mmoe", "cgc"]
    assert "auc_ctcvr" in summary.splitlines()[0]


def test_hillstrom_is_generated_in_the_layout_that_is_read(tmp_path: Path) -> None:
    config = compose(["dataset=hillstrom", "dataset.source.rows=20000"])["dataset"]
    made = prepare(build(config, Dataset, "dataset"), tmp_path / "cache")
    visit, conversion, spend = np.asarray(made.splits["train"].labels).T
    assert 0.1 < visit.mean() < 0.2 and 0.005 < conversion.mean() < 0.02
    assert not conversion[visit == 0].any() and ((spend > 0) == (conversion == 1)).all()
    assert 60 < spend[spend > 0].mean() < 250
    # The published file: its first rows have a spend of 0, without a point.
    head = "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend\n"
    row = '{0},"6) $750 - $1,000",{1}.42,1,0,Surburban,1,Multichannel,Mens E-Mail,{2},{3},{4}\n'
    lines = [row.format(1 + n % 12, n, n % 2, n % 4 // 3, "29.99" if n % 4 == 3 else "0") for n in range(400)]
    (tmp_path / "hillstrom.csv").write_text(head + "".join(lines))
    read = prepared(tmp_path, "hillstrom", "dataset.source=null", "dataset.path=hillstrom.csv")
    found = np.concatenate([split.labels for split in read.splits.values()])
    assert found.sum(axis=0) == pytest.approx([200, 100, 2999], rel=1e-6)
    assert set(made.columns) == set(read.columns)
