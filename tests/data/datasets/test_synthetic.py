"""The planted truth of the synthetic log: what its columns of true probability claim is what its labels do."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from funrec.config.build import build
from funrec.data.datasets import population
from funrec.data.datasets.synthetic import COLUMNS, LABELS, TRUTHS, Synthetic
from funrec.data.preparation.prepare import prepare
from funrec.utils.errors import InputError

CONF = str(Path(__file__).parents[3] / "conf")
ROWS = 120_000
#: A claim that holds is refuted once in about 150,000 tries.
STANDARD_ERRORS = 4.5


def make(**knobs: Any) -> Synthetic:
    arguments: dict[str, Any] = {
        "features": {"user_id": {}, "video_id": {}, "tag": {}, "tab": {}},
        "tasks": {"is_click": {}, "long_view": {"after": "is_click"}, "is_like": {"after": "is_click"}},
        "split": {"by": "time"},
        "group": "user_id",
        "item": "video_id",
        "time": "date",
        "rows": ROWS,
        "users": 800,
        "videos": 500,
    }
    return build({"_target_": "funrec.data.datasets.synthetic.Synthetic", **arguments, **knobs}, Synthetic, "dataset")


def composed(*overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("dataset/synthetic", overrides=list(overrides)).dataset


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    return make().generate(0, ROWS)


def check_calibrated(labels: NDArray[Any], truth: NDArray[Any], bins: int = 10) -> None:
    order = np.argsort(truth)
    for rows in np.array_split(order, bins):
        p = truth[rows].astype(np.float64)
        assert abs(labels[rows].mean() - p.mean()) <= STANDARD_ERRORS * np.sqrt((p * (1 - p)).sum()) / len(rows)


def logit(p: pl.Series) -> NDArray[np.float64]:
    values = p.to_numpy().astype(np.float64)
    return np.log(values / (1 - values))


@pytest.mark.parametrize("label", LABELS)
def test_labels_come_as_often_as_their_true_probability_says_in_every_tenth(log: pl.DataFrame, label: str) -> None:
    check_calibrated(log[label].to_numpy(), log[f"p_{label}"].to_numpy())


@pytest.mark.parametrize("label", LABELS[1:])
def test_conditional_probabilities_hold_on_clicked_rows(log: pl.DataFrame, label: str) -> None:
    clicked = log.filter(pl.col("is_click") == 1)
    check_calibrated(clicked[label].to_numpy(), clicked[f"p_{label}_given_is_click"].to_numpy())


def test_follows_after_a_like_and_after_none_have_their_own_probabilities() -> None:
    log = make(like_rate=0.1, follow_rate=0.05).generate(0, ROWS)
    for is_like, column in ((1, "p_is_follow_given_is_like"), (0, "p_is_follow_given_no_like")):
        rows = log.filter((pl.col("is_click") == 1) & (pl.col("is_like") == is_like))
        check_calibrated(rows["is_follow"].to_numpy(), rows[column].to_numpy(), bins=5)
    boost = logit(log["p_is_follow_given_is_like"]) - logit(log["p_is_follow_given_no_like"])
    np.testing.assert_allclose(boost, 2.0, atol=2e-3)


def test_joint_probabilities_are_products_and_a_follow_marginalises_over_the_like(log: pl.DataFrame) -> None:
    like = log["p_is_like_given_is_click"]
    follow = like * log["p_is_follow_given_is_like"] + (1 - like) * log["p_is_follow_given_no_like"]
    np.testing.assert_allclose(log["p_is_follow_given_is_click"], follow, rtol=1e-5)
    for label in LABELS[1:]:
        joint = log["p_is_click"] * log[f"p_{label}_given_is_click"]
        np.testing.assert_allclose(log[f"p_{label}"], joint, rtol=1e-5)


def test_there_is_no_long_view_like_or_follow_without_a_click(log: pl.DataFrame) -> None:
    unclicked = log.filter(pl.col("is_click") == 0)
    assert unclicked.height > 0
    assert unclicked.select(*LABELS).sum().row(0) == (0, 0, 0, 0)
    assert unclicked["p_is_like_given_is_click"].min() > 0


@pytest.mark.parametrize(
    "rates",
    [
        {"click_rate": 0.4, "long_view_rate": 0.28, "like_rate": 0.025, "follow_rate": 0.004},
        {"click_rate": 0.05, "long_view_rate": 0.049, "like_rate": 0.001, "follow_rate": 0.03},
        {"click_rate": 0.9, "long_view_rate": 0.1, "like_rate": 0.6, "follow_rate": 0.59, "selection_bias": 0.9},
    ],
)
def test_positive_rates_are_met(rates: dict[str, float]) -> None:
    log = make(**rates).generate(0, ROWS)
    for label, knob in zip(LABELS, ("click_rate", "long_view_rate", "like_rate", "follow_rate"), strict=True):
        rate = rates[knob]
        # The intercepts are found on 2^18 points of a lattice, which adds at most this sampling error.
        error = np.sqrt(rate * (1 - rate) * (1 / ROWS + 1 / 2**18))
        assert abs(log[label].mean() - rate) <= STANDARD_ERRORS * error, label


def test_no_column_ranks_a_label_better_than_its_true_probability(log: pl.DataFrame) -> None:
    for label in LABELS:
        labels = log[label].to_numpy()
        best = roc_auc_score(labels, log[f"p_{label}"])
        for column in log.select(pl.selectors.numeric()).columns:
            if column not in (label, f"p_{label}") and column not in LABELS:
                assert roc_auc_score(labels, log[column]) < best, (label, column)


def test_users_that_drift_keep_their_rates_and_change_a_little_every_day() -> None:
    made = make(drift=0.2, days=5, users=3_000)
    log = made.generate(0, ROWS)
    for label in ("is_click", "is_like"):
        check_calibrated(log[label].to_numpy(), log[f"p_{label}"].to_numpy())
    assert log["is_click"].mean() == pytest.approx(0.4, abs=0.01)
    users = made._users_by_day
    shares = np.diff(users.exposure, prepend=0.0)
    by_day = users.effect.reshape(5, -1, 4)
    for today, tomorrow in itertools.pairwise(by_day):
        assert np.allclose(shares @ (today * tomorrow), 0.8, atol=0.07)
        assert np.allclose(shares @ np.square(tomorrow), 1.0, atol=0.07)


def test_the_oracle_auc_is_the_bayes_auc(log: pl.DataFrame) -> None:
    for label in LABELS[:3]:
        p = log[f"p_{label}"].to_numpy().astype(np.float64)
        both = np.repeat([1, 0], len(p))
        bayes = roc_auc_score(both, np.tile(p, 2), sample_weight=np.concatenate([p, 1 - p]))
        positives = p.sum()
        # Standard error of an AUC is below sqrt(auc (1 - auc) / positives) (Birnbaum and Klose, 1957).
        allowed = STANDARD_ERRORS * np.sqrt(bayes * (1 - bayes) / min(positives, len(p) - positives))
        assert abs(roc_auc_score(log[label], p) - bayes) <= allowed


def test_rows_do_not_depend_on_how_many_are_made_at_once(tmp_path: Path) -> None:
    dataset = make(rows=1_000)
    whole = dataset.generate(0, 1_000)
    for rows_per_file in (1, 333, 1_000):
        folder = tmp_path / str(rows_per_file)
        folder.mkdir()
        rows = 40 if rows_per_file == 1 else 1_000
        dataset.rows, dataset.rows_per_file = rows, rows_per_file
        assert dataset.scan(COLUMNS, folder)["all"].collect().equals(whole.head(rows))
        assert len(list(folder.iterdir())) == -(-rows // rows_per_file)


def test_a_longer_log_begins_with_the_shorter_one_and_another_seed_makes_another() -> None:
    assert make(rows=500).generate(0, 500).equals(make(rows=ROWS).generate(0, 500))
    labels = [make(seed=seed).generate(0, 500)["p_is_click"].to_numpy() for seed in (0, 1)]
    assert abs(np.corrcoef(labels)[0, 1]) < 0.2


@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.3, 0.9])
def test_selection_bias_is_the_correlation_of_the_two_logits(bias: float) -> None:
    log = make(selection_bias=bias).generate(0, ROWS)
    correlation = np.corrcoef(logit(log["p_is_click"]), logit(log["p_is_like_given_is_click"]))[0, 1]
    assert abs(correlation - bias) < 0.02  # heavy tails of popularity: wider than 1 / sqrt(ROWS)
    everywhere = log["p_is_like_given_is_click"].mean()
    among_clicked = log.filter(pl.col("is_click") == 1)["p_is_like_given_is_click"].mean()
    if bias == 0:
        assert abs(among_clicked / everywhere - 1) < 0.03
    else:
        assert (among_clicked / everywhere - 1) / bias > 0.3


def grid_scores(taste_strength: float, taste_dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores of every user, video and tab, `(users, videos, tabs, scores)`, and their share of exposures."""
    random = np.random.default_rng(3)
    sides = (
        population.draw_users(random, 60, taste_dim),
        population.draw_videos(random, 50, taste_dim, 0.7),
        population.draw_tabs(random),
    )
    index = np.indices((60, 50, 5)).reshape(3, -1)
    scores = population.scores(sides, tuple(index), taste_strength).astype(np.float64)
    user, video, tab = (np.diff(side.exposure, prepend=0) for side in sides)
    return scores.reshape(60, 50, 5, 4), user[:, None, None] * video[:, None] * tab


@pytest.mark.parametrize(("taste_strength", "taste_dim"), [(0.0, 1), (0.25, 1), (0.6, 3), (1.0, 2)])
def test_scores_have_variance_1_and_no_correlation_and_taste_has_its_share(
    taste_strength: float, taste_dim: int
) -> None:
    scores, share = grid_scores(taste_strength, taste_dim)
    weights = share[..., None]
    np.testing.assert_allclose((scores * weights).sum((0, 1, 2)), 0, atol=1e-4)
    covariance = np.einsum("uvtk,uvtl,uvt->kl", scores, scores, share)
    np.testing.assert_allclose(covariance, np.eye(4), atol=1e-3)
    of_user = (scores * weights).sum((1, 2)) / share.sum((1, 2))[:, None]
    of_video = (scores * weights).sum((0, 2)) / share.sum((0, 2))[:, None]
    of_tab = (scores * weights).sum((0, 1)) / share.sum((0, 1))[:, None]
    rest = scores - of_user[:, None, None] - of_video[:, None] - of_tab
    np.testing.assert_allclose((rest**2 * weights).sum((0, 1, 2)), taste_strength, atol=1e-3)


def test_popularity_is_zipf() -> None:
    log = make(videos=500, zipf_exponent=1.0).generate(0, ROWS)
    counts = np.sort(log["video_id"].value_counts()["count"].to_numpy())[::-1]
    expected = 1 / np.arange(1, 501)
    share = (expected / expected.sum())[:50].sum()
    assert abs(counts[:50].sum() / ROWS - share) <= STANDARD_ERRORS * np.sqrt(share * (1 - share) / ROWS)


def test_activity_is_skewed(log: pl.DataFrame) -> None:
    counts = np.sort(log["user_id"].value_counts()["count"].to_numpy())[::-1]
    assert counts[: len(counts) // 10].sum() > 0.25 * ROWS


@pytest.mark.parametrize(
    "column", ["user_active_degree", "friend_user_num_range", "tab", "tag", "author_id", "upload_type"]
)
def test_what_is_known_of_newcomers_says_something_about_their_labels(log: pl.DataFrame, column: str) -> None:
    rows = log.with_columns(shuffled=pl.col(column).shuffle(seed=0))
    spread = [rows.group_by(by).agg(pl.col("p_long_view").mean(), n=pl.len()) for by in (column, "shuffled")]
    variances = [np.cov(s["p_long_view"], fweights=s["n"]).item() for s in spread]
    assert variances[0] > 5 * variances[1]


def test_days_follow_one_another_and_the_last_fifth_validates() -> None:
    dataset = make(days=10)
    dates = dataset.generate(0, 5_000)["date"]
    assert sorted(dates.unique()) == [*range(20220425, 20220431), *range(20220501, 20220505)]
    assert dataset.split.valid_from == 20220503
    assert make(split={"by": "time", "valid_from": 20220426}).split.valid_from == 20220426
    assert make(days=1, split={"by": "random", "valid": 0.2}).split.valid_from is None


def test_true_probabilities_belong_to_tasks_by_label_and_sample_space() -> None:
    assert make().oracle == {"is_click": "p_is_click", "long_view": "p_long_view", "is_like": "p_is_like"}
    tasks = {
        "click": {"label": "is_click", "where": "tab IN (0, 1)"},
        "like": {"label": "is_like", "where": "is_click=1"},
        "odd": {"label": "is_like", "where": "long_view = 1"},
        "own": {"label": "is_like = 1 OR is_follow = 1"},
        "number": {"label": "is_like", "kind": "regression"},
    }
    assert make(tasks=tasks).oracle == {"click": "p_is_click", "like": "p_is_like_given_is_click"}
    assert make(where="is_click = 1").oracle == {}
    assert make(where="tab = 1").oracle == make().oracle


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    frame = make(rows=100).scan(["user_id", "date"], tmp_path)["all"].collect()
    assert frame.columns == ["date", "user_id"]
    assert frame.height == 100


def test_all_columns_are_made_and_named_in_advance(log: pl.DataFrame) -> None:
    assert tuple(log.columns) == COLUMNS
    assert make().available_columns() == list(COLUMNS)
    assert sum(log.null_count().row(0)) == 0


def test_an_unknown_column_is_named_with_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such column in the rows of Synthetic\. Did you mean video_id\?"):
        prepare(make(features={"vidoe_id": {}}), tmp_path)


def test_a_true_probability_is_refused_as_a_feature() -> None:
    features = instantiate(composed(), _convert_="all").features
    assert not {feature.column for feature in features} & {*TRUTHS, *LABELS}
    for column in TRUTHS:
        with pytest.raises(InputError, match="true probability"):
            make(features={"user_id": {}, column: {"kind": "numeric"}}).check_leaks()


def test_preparation_keeps_the_true_probabilities_beside_the_labels(tmp_path: Path) -> None:
    dataset = make(rows=20_000)
    data = prepare(dataset, tmp_path / "cache")
    log = dataset.generate(0, 20_000)
    valid = log.with_row_index().filter(pl.col("date") >= dataset.split.valid_from)
    split = data.splits["valid"]
    rows = valid["index"].to_numpy()
    order = np.argsort(np.asarray(split.rows))
    np.testing.assert_array_equal(np.asarray(split.rows)[order], rows)
    for place, task in enumerate(("is_click", "long_view", "is_like")):
        np.testing.assert_array_equal(np.asarray(split.oracle)[order, place], valid[f"p_{task}"].to_numpy())
        np.testing.assert_array_equal(np.asarray(split.labels)[order, place], valid[task].to_numpy())


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_tiny_population_still_has_finite_probabilities(size: int) -> None:
    log = make(users=size, videos=size, rows=200).generate(0, 200)
    for column in TRUTHS:
        assert np.isfinite(log[column].to_numpy()).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"rows": 0}, r"dataset.rows should be a whole number of at least 1\. Received: 0\."),
        ({"users": 2.5}, r"dataset.users should be a whole number of at least 1\. Received: 2\.5\."),
        ({"videos": True}, r"dataset.videos should be a whole number"),
        ({"seed": -1}, r"dataset.seed should be a whole number of at least 0"),
        ({"taste_dim": 0}, r"dataset.taste_dim should be a whole number of at least 1"),
        ({"click_rate": 1.0}, r"dataset.click_rate should be a number strictly between 0 and 1\. Received: 1\.0\."),
        ({"like_rate": 0}, r"dataset.like_rate should be a number strictly between 0 and 1"),
        ({"like_rate": 0.4}, r"dataset.like_rate should be below dataset.click_rate, 0\.4"),
        ({"follow_rate": "x"}, r"dataset.follow_rate should be a number"),
        ({"selection_bias": 1.1}, r"dataset.selection_bias should be a number from -1 to 1\. Received: 1\.1\."),
        ({"signal_strength": float("nan")}, r"dataset.signal_strength should be a number from 0 to 10"),
        ({"taste_strength": -0.1}, r"dataset.taste_strength should be a number from 0 to 1"),
        ({"days": 1}, r"dataset.days should be at least 2 to split by time\. Received: 1\."),
    ],
)
def test_a_knob_out_of_range_is_one_clear_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**knobs)
    assert "\n" not in str(caught.value)


def test_a_follow_task_is_one_override_away() -> None:
    names = ["is_click", "long_view", "is_like"]
    assert [task.name for task in instantiate(composed(), _convert_="all").tasks] == names
    dataset = instantiate(composed("+dataset.tasks.is_follow.after=is_click"), _convert_="all")
    assert [task.name for task in dataset.tasks] == [*names, "is_follow"]
    assert dataset.tasks[3].label == "is_follow"
    assert dataset.oracle["is_follow"] == "p_is_follow"
