"""Metrics with one definition each, in NumPy alone."""

from funrec.metrics.auc import auc
from funrec.metrics.evaluate import Evaluation, check_labels, evaluate, is_table_metric, table_columns
from funrec.metrics.gauc import GroupAUC, group_auc, per_group_auc
from funrec.metrics.sorting import UndefinedMetric

__all__ = [
    "Evaluation",
    "GroupAUC",
    "UndefinedMetric",
    "auc",
    "check_labels",
    "evaluate",
    "group_auc",
    "is_table_metric",
    "per_group_auc",
    "table_columns",
]
