"""Names, rows and reasons of a split's metrics."""

import numpy as np
import pytest

from funrec.metrics import (
    TaskRows,
    build_metrics,
    check_labels,
    evaluate,
    is_table_metric,
    standard_metrics,
    table_columns,
)
from funrec.metrics.auc import PRAUC, auc
from funrec.metrics.base import sigmoid
from funrec.metrics.calibration import expected_calibration_error, predicted_over_observed
from funrec.metrics.errors import RMSE, LogLoss
from funrec.metrics.gauc import GAUC_WEIGHTS, group_auc
from funrec.schema import Task
from funrec.utils.errors import InputError

CLICK, LIKE = Task("is_click"), Task("is_like", after="is_click")
WATCH = Task("watch_seconds", kind="regression")
TASKS = (CLICK, LIKE, WATCH)


def log_loss(labels, logits):
    return LogLoss().value(TaskRows(labels, logits))


def rmse(labels, predictions):
    return RMSE().value(TaskRows(labels, predictions))


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    scores = random.standard_normal((500, 3)).astype(np.float32)
    labels = random.random((500, 3)) < sigmoid(scores)
    labels[:, 1] &= labels[:, 0]
    labels = labels.astype(np.float32)
    labels[:, 2] = random.random(500)
    return labels, scores, random.integers(0, 40, 500).astype(np.int32)


def test_every_metric_has_its_name_and_value(rows):
    labels, scores, groups = rows
    result = evaluate(TASKS, labels, scores, groups=groups)
    expected = {"rmse_watch_seconds": rmse(labels[:, 2], scores[:, 2])}
    for column, name in enumerate(("is_click", "is_like")):
        task_labels, logits = labels[:, column], scores[:, column]
        within = group_auc(groups, task_labels, logits)
        expected |= {
            f"auc_{name}": auc(task_labels, logits),
            f"gauc_{name}": within.value,
            f"val_user_{name}": within.groups,
            f"log_loss_{name}": log_loss(task_labels, logits),
            f"pr_auc_{name}": PRAUC().value(TaskRows(task_labels, logits)),
            f"ratio_{name}": predicted_over_observed(task_labels, sigmoid(logits)),
            f"ece_{name}": expected_calibration_error(task_labels, sigmoid(logits)),
        }
    for metric in ("auc", "gauc"):
        expected[f"{metric}_macro"] = (expected[f"{metric}_is_click"] + expected[f"{metric}_is_like"]) / 2
    clicked = labels[:, 0] == 1
    expected["auc_is_like_given_is_click"] = auc(labels[clicked, 1], scores[clicked, 1])
    assert result.metrics == pytest.approx(expected)
    assert result.absent == {}
    assert isinstance(result.metrics["val_user_is_like"], int)


def test_order_of_tasks_changes_no_value(rows):
    labels, scores, groups = rows
    order = [2, 1, 0]
    swapped = evaluate([TASKS[i] for i in order], labels[:, order], scores[:, order], groups=groups)
    assert swapped.metrics == evaluate(TASKS, labels, scores, groups=groups).metrics


@pytest.mark.parametrize("weight", GAUC_WEIGHTS)
def test_gauc_weight_reaches_gauc(rows, weight):
    labels, scores, groups = rows
    result = evaluate(TASKS, labels, scores, groups=groups, metrics=standard_metrics(weight))
    assert result.metrics["gauc_is_click"] == group_auc(groups, labels[:, 0], scores[:, 0], weight).value


def test_an_unknown_gauc_weight_is_named_as_in_the_config():
    with pytest.raises(InputError, match=r"metrics.gauc_weight should be one of .* Did you mean positives\?"):
        build_metrics({"gauc_weight": "positive"})


def test_masked_rows_have_no_say(rows):
    labels, scores, groups = rows
    masks = np.random.default_rng(1).random(labels.shape) < 0.7
    expected = evaluate(TASKS, labels, scores, masks=masks, groups=groups)
    inside = masks[:, 1]
    assert expected.metrics["auc_is_like"] == auc(labels[inside, 1], scores[inside, 1])
    assert expected.metrics["gauc_is_like"] == group_auc(groups[inside], labels[inside, 1], scores[inside, 1]).value
    assert expected.metrics["rmse_watch_seconds"] == rmse(labels[masks[:, 2], 2], scores[masks[:, 2], 2])
    both = masks[:, 0] & masks[:, 1] & (labels[:, 0] == 1)
    assert expected.metrics["auc_is_like_given_is_click"] == auc(labels[both, 1], scores[both, 1])
    labels, scores = np.where(masks, labels, np.nan), np.where(masks, scores, np.nan)
    assert evaluate(TASKS, labels, scores, masks=masks, groups=groups) == expected


def test_conditional_head_replaces_the_tasks_own_scores_on_clicked_rows(rows):
    labels, scores, _ = rows
    head = np.random.default_rng(2).standard_normal(500).astype(np.float32)
    result = evaluate(TASKS, labels, scores, conditional={"is_like_given_is_click": head})
    clicked = labels[:, 0] == 1
    assert result.metrics["auc_is_like_given_is_click"] == auc(labels[clicked, 1], head[clicked])
    assert result.metrics["auc_is_like"] == auc(labels[:, 1], scores[:, 1])


def test_undefined_conditional_metric_is_absent_even_when_strict(rows):
    labels, scores, _ = rows
    labels[:, 1] = labels[:, 0]
    result = evaluate(TASKS, labels, scores)
    assert "auc_is_like_given_is_click" not in result.metrics
    assert result.absent["auc_is_like_given_is_click"] == "every label is 1"


def test_without_groups_gauc_is_absent_with_the_reason(rows):
    result = evaluate(TASKS, *rows[:2])
    assert not [name for name in result.metrics if name.startswith(("gauc_", "val_user_"))]
    names = ("gauc_is_click", "gauc_is_like", "gauc_macro", "val_user_is_click", "val_user_is_like")
    assert result.absent == dict.fromkeys(names, "no group column")


def test_gauc_without_a_user_of_both_labels_is_absent_and_so_is_its_macro(rows):
    labels, scores, groups = rows
    groups = np.where(labels[:, 1] == 1, groups, groups + 100)
    result = evaluate(TASKS, labels, scores, groups=groups)
    assert result.absent["gauc_is_like"] == "no group has both labels"
    assert result.absent["gauc_macro"] == "no gauc_is_like: no group has both labels"
    assert result.metrics["val_user_is_like"] == 0
    assert result.metrics["gauc_is_click"] == group_auc(groups, labels[:, 0], scores[:, 0]).value
    assert "gauc_is_like" not in result.metrics and "gauc_macro" not in result.metrics


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_in_a_whole_split_is_an_error_that_says_what_to_do(rows, value):
    labels, scores, _ = rows
    labels[:, 1] = value
    message = (
        f"tasks.is_like: every label in the validation split is {value}, so its AUC is undefined. "
        "Widen dataset.split or drop the task."
    )
    with pytest.raises(InputError) as error:
        evaluate(TASKS, labels, scores)
    assert str(error.value) == message


@pytest.mark.parametrize(("column", "metric"), [(1, "AUC"), (2, "RMSE")])
def test_a_task_without_rows_is_an_error(rows, column, metric):
    labels, scores, _ = rows
    masks = np.ones(labels.shape, bool)
    masks[:, column] = False
    with pytest.raises(InputError, match=f"no row of the test split is in its sample space, so its {metric} is"):
        evaluate(TASKS, labels, scores, masks=masks, split="test")
    with pytest.raises(InputError, match=r"tasks.is_click: the training split has no row"):
        check_labels(TASKS, labels[:0], split="training")


def test_on_another_split_undefined_metrics_are_absent_with_reasons(rows):
    labels, scores, groups = rows
    labels[:, 1] = 0
    result = evaluate(TASKS, labels, scores, groups=groups, strict=False, suffix="@random")
    assert all(name.endswith("@random") for name in (*result.metrics, *result.absent))
    assert result.absent == {
        "auc_is_like@random": "every label is 0",
        "auc_is_like_given_is_click@random": "every label is 0",
        "auc_macro@random": "no auc_is_like: every label is 0",
        "gauc_is_like@random": "no group has both labels",
        "gauc_macro@random": "no gauc_is_like: no group has both labels",
        "pr_auc_is_like@random": "every label is 0",
        "ratio_is_like@random": "no label is 1",
    }
    assert result.metrics["auc_is_click@random"] == auc(labels[:, 0], scores[:, 0])
    assert result.metrics["log_loss_is_like@random"] == log_loss(labels[:, 1], scores[:, 1])


def test_a_split_without_rows_has_no_value_but_reasons(rows):
    labels, scores, groups = rows
    result = evaluate(TASKS, labels[:0], scores[:0], groups=groups[:0], strict=False)
    assert result.metrics == {"val_user_is_click": 0, "val_user_is_like": 0}
    assert result.absent["auc_is_click"] == result.absent["rmse_watch_seconds"] == "there is no row"


def test_regression_alone_has_no_macro(rows):
    labels, scores, groups = rows
    result = evaluate((WATCH,), labels[:, 2:], scores[:, 2:], groups=groups)
    assert list(result.metrics) == ["rmse_watch_seconds"]
    assert result.absent == {"auc_macro": "no binary task", "gauc_macro": "no binary task"}


def test_the_quick_look_gives_the_same_values_for_less(rows):
    labels, scores, groups = rows
    quick = evaluate(TASKS, labels, scores, groups=groups, level="table").metrics
    full = evaluate(TASKS, labels, scores, groups=groups).metrics
    assert quick == {name: full[name] for name in quick}
    assert set(table_columns(full)) <= set(quick)
    assert set(full) - set(quick) == {
        "auc_is_like_given_is_click",
        *(f"{metric}_{task}" for metric in ("pr_auc", "ratio", "ece") for task in ("is_click", "is_like")),
    }


def test_table_columns_are_the_printed_ones_by_name(rows):
    labels, scores, groups = rows
    metrics = evaluate(TASKS, labels, scores, groups=groups).metrics
    metrics |= evaluate(TASKS, labels, scores, groups=groups, suffix="@random").metrics
    assert table_columns(name for name in metrics if not name.startswith("gauc")) == [
        "auc_is_click",
        "auc_is_click@random",
        "auc_is_like",
        "auc_is_like@random",
        "auc_macro",
        "auc_macro@random",
        "rmse_watch_seconds",
        "rmse_watch_seconds@random",
        "val_user_is_click",
        "val_user_is_click@random",
        "val_user_is_like",
        "val_user_is_like@random",
    ]
    assert is_table_metric("gauc_macro")
    for name in ("pr_auc_is_click", "log_loss_is_click", "auc_is_like_given_is_click@random", "ece_is_click"):
        assert not is_table_metric(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros((500, 2), np.float32)}, r"scores should be of shape \(rows, tasks\) = \(500, 3\)"),
        ({"masks": np.ones((500, 2), bool)}, "masks should be of shape"),
        ({"groups": np.zeros(5, np.int32)}, "groups should be of shape"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(rows, changes, message):
    arguments = {"labels": rows[0], "scores": rows[1], **changes}
    with pytest.raises(ValueError, match=message):
        evaluate(TASKS, **arguments)


def test_nan_scores_are_never_a_metric(rows):
    labels, scores, _ = rows
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 NaN"):
        evaluate(TASKS, labels, scores, strict=False)


RECALL = {"_target_": "funrec.metrics.ranking.RecallAtK", "k": [1, 3], "users": "both_labels"}


def test_every_k_of_a_list_is_a_column_with_a_macro(rows):
    labels, scores, groups = rows
    measured = build_metrics({"gauc_weight": "none", "extra": {"recall_at_k": RECALL}})
    result = evaluate(TASKS, labels, scores, groups=groups, metrics=measured, level="table").metrics
    assert [name for name in result if name.startswith("recall")] == [
        "recall_at_1_is_click",
        "recall_at_3_is_click",
        "recall_at_1_is_like",
        "recall_at_3_is_like",
        "recall_at_1_macro",
        "recall_at_3_macro",
    ]
    assert result["recall_at_3_macro"] == (result["recall_at_3_is_click"] + result["recall_at_3_is_like"]) / 2
    assert {"recall_at_3_is_like", "recall_at_3_macro"} <= set(table_columns(result))
    without = evaluate(TASKS, labels, scores, metrics=measured)
    assert without.absent["recall_at_1_macro"] == without.absent["recall_at_3_is_like"] == "no group column"


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(
        InputError, match=r"metrics.extra.b should give metrics of different names. Twice: recall_at_3."
    ):
        build_metrics({"extra": {"a": RECALL, "b": RECALL | {"k": 3}}})


def test_what_is_not_a_metric_is_refused():
    with pytest.raises(InputError, match=r"metrics.extra.recall._target_ should be a Metric"):
        build_metrics({"extra": {"recall": {"_target_": "funrec.metrics.evaluate.Evaluation"}}})


def test_scores_that_are_no_log_odds_have_no_metric_that_needs_them(rows):
    labels, scores, groups = rows
    result = evaluate(TASKS, labels, scores, groups=groups, uncalibrated={"is_like"})
    names = ("log_loss_is_like", "ratio_is_like", "ece_is_like")
    assert result.absent == dict.fromkeys(names, "its scores are not log odds")
    assert "log_loss_is_click" in result.metrics and "auc_is_like" in result.metrics


def test_durations_have_errors_and_order_in_the_table_unasked(rows):
    labels, scores, groups = rows
    for kind, names in (("duration", {"rmse", "mae", "bias", "xauc", "gxauc"}), ("regression", {"rmse"})):
        tasks = (CLICK, LIKE, Task("watch", kind=kind))
        found = evaluate(tasks, labels, scores, groups=groups).metrics
        assert {name.removesuffix("_watch") for name in found if name.endswith("_watch")} == names
        assert all(is_table_metric(f"{name}_watch") for name in names)
    found = evaluate((CLICK, LIKE, Task("watch", kind="duration")), labels, scores, groups=groups).metrics
    assert found["bias_watch"] == pytest.approx(float(scores[:, 2].mean() - labels[:, 2].mean()), abs=1e-6)


def test_a_metric_that_durations_have_is_also_had_for_regressions_once_it_is_chosen(rows):
    labels, scores, groups = rows
    metrics = build_metrics({"extra": {"mae": {"_target_": "funrec.metrics.errors.MAE"}}})
    assert "mae_watch_seconds" in evaluate(TASKS, labels, scores, groups=groups, metrics=metrics).metrics
    assert [metric.name for metric in metrics].count("mae") == 1
