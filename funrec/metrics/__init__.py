"""Metrics with one definition each, in NumPy alone."""

from funrec.metrics.auc import auc
from funrec.metrics.base import (
    Metric,
    TaskRows,
    find_metric,
    has_direction,
    is_count,
    is_higher_better,
    is_table_metric,
    sigmoid,
    split_column,
    table_columns,
)
from funrec.metrics.evaluate import (
    Evaluation,
    build_metrics,
    check_labels,
    describe_standard_metrics,
    evaluate,
    standard_metrics,
)
from funrec.metrics.gauc import group_auc
from funrec.metrics.sorting import UndefinedMetric

__all__ = [
    "Evaluation",
    "Metric",
    "TaskRows",
    "UndefinedMetric",
    "auc",
    "build_metrics",
    "check_labels",
    "describe_standard_metrics",
    "evaluate",
    "find_metric",
    "group_auc",
    "has_direction",
    "is_count",
    "is_higher_better",
    "is_table_metric",
    "sigmoid",
    "split_column",
    "standard_metrics",
    "table_columns",
]
