"""What holds of every metric: those that all runs measure, and each that a file of `conf/metrics/extra/` names."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from funrec.metrics import (
    TaskRows,
    build_metrics,
    find_metric,
    has_direction,
    is_count,
    is_higher_better,
    is_table_metric,
    split_column,
)
from funrec.metrics.base import Sample
from funrec.metrics.intervals import resample

CONF = Path(__file__).parents[2] / "conf" / "metrics" / "extra"
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
METRICS = build_metrics({"extra": {name: spec for content in FILES.values() for name, spec in content.items()}})


def rows_of(metric, users=120, seed=0):
    """Rows of users with a label that the score knows something of, with ties."""
    random = np.random.default_rng(seed)
    units = np.sort(np.concatenate([np.arange(users), random.integers(0, users, 6 * users)]))
    scores = (random.normal(size=users)[units] + random.normal(size=units.size)).round(1)
    labels = scores + random.normal(size=units.size)
    return (labels if metric.kind == "regression" else (labels > 0.5).astype(np.float32)), scores, units


def test_every_file_has_the_name_of_its_metric():
    assert FILES
    assert all(list(content) == [name] for name, content in FILES.items())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_column_leads_back_to_its_metric(metric):
    for target in ("is_like", "is_like_given_is_click", "is_like@random", "macro"):
        column = f"{metric.name}_{target}"
        assert split_column(column) == (type(metric), metric.name, target)
        assert is_higher_better(column) is (metric.higher_is_better is not False)
        assert has_direction(column) is (metric.higher_is_better is not None)
        assert is_count(column) is metric.is_count
        assert is_table_metric(column) is (metric.in_table and "_given_" not in column)


def test_a_column_of_no_metric_is_in_no_table():
    for column in ("auc", "auc_", "loss_is_click", "xxauc_is_click", "ndcg_10_is_click"):
        assert find_metric(column) is None
        assert not is_table_metric(column)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_order_of_rows_and_the_names_of_users_change_nothing(metric):
    labels, scores, users = rows_of(metric)
    order = np.random.default_rng(1).permutation(labels.size)
    shuffled = TaskRows(labels[order], scores[order], 1000 - 3 * users[order])
    assert metric.value(shuffled) == pytest.approx(metric.value(TaskRows(labels, scores, users)), abs=1e-12)


@pytest.mark.parametrize(
    "metric", [metric for metric in METRICS if metric.higher_is_better is not None], ids=lambda metric: metric.name
)
def test_true_values_are_better_than_noise_in_the_direction_it_says(metric):
    labels, scores, users = rows_of(metric)
    truth = labels if metric.kind == "regression" else 8 * labels - 4
    noise = np.random.default_rng(2).permutation(scores)
    best, worst = (metric.value(TaskRows(labels, each, users)) for each in (truth, noise))
    assert (best > worst) is metric.higher_is_better


@pytest.mark.parametrize(
    "metric", [metric for metric in METRICS if metric.higher_is_better is not None], ids=lambda metric: metric.name
)
def test_its_sampling_error_is_that_of_resampled_users(metric):
    labels, scores, users = rows_of(metric)
    statistic = metric.statistic(Sample(labels, users, 120, has_groups=True))
    assert statistic.is_defined
    value, vector = statistic.measure(scores)
    assert value == pytest.approx(metric.value(TaskRows(labels, scores, users)), abs=1e-12)
    rows = TaskRows(labels, scores, users, users)
    again = [metric.value(rows.drawn(times)) for times in resample(120, 400, seed=5)]
    # Four standard errors of a standard error from 400 resamples, and of one from 200 where it has no influence values;
    # the linear part leaves out terms of the order of 1 / users.
    assert np.linalg.norm(vector) == pytest.approx(np.std(again, ddof=1), rel=4 * np.hypot(0.035, 0.05))
