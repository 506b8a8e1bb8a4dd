"""Which feature gives a label away by itself?"""

from __future__ import annotations

import numpy as np

from funrec.metrics.auc import auc
from funrec.metrics.sorting import Array


def auc_of_codes(train_codes: Array, train_labels: Array, codes: Array, labels: Array) -> float:
    """Return the AUC of a categorical feature alone: every code scores its rate of positives in training.

    Rates are drawn to the overall one by one row's worth, so that a code seen once is no certainty.

    Args:
        train_codes: Codes from 0, `(train rows,)`.
        train_labels: 0/1 labels, `(train rows,)`.
        codes: Of the rows to rank, `(rows,)`.
        labels: Their labels, of both kinds, `(rows,)`.
    """
    size = int(max(train_codes.max(initial=0), codes.max(initial=0))) + 1
    rows = np.bincount(train_codes, minlength=size)
    positives = np.bincount(train_codes, weights=train_labels, minlength=size)
    rate = float(train_labels.mean()) if train_labels.size else 0.0
    return auc(labels, ((positives + rate) / (rows + 1))[codes])


def auc_of_numbers(numbers: Array, labels: Array) -> float:
    """Return the AUC of a numeric feature alone, be it high or low where the label is 1; rows as above."""
    value = auc(labels, numbers)
    return max(value, 1 - value)
