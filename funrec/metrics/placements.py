"""The AUC with how much each user moves it: placement values, summed by user."""

from __future__ import annotations

import numpy as np

from funrec.metrics.sorting import Array, undefined_reason


class Placements:
    """Labels and users, prepared once for the scores of any number of models.

    `influence_u = sum over u's positives (V10 - AUC) / P + sum over u's negatives (V01 - AUC) / N`, where a positive's
    placement V10 is the share of negatives below it and a negative's V01 the share of positives above it, ties counting
    half (DeLong et al., Biometrics 1988; by cluster: Obuchowski, Biometrics 1997, whose three terms S10, S01 and S11
    these squares expand to). The influence values of two models on the same rows may be subtracted: the sum of squares
    is then the variance of the difference. One sort per model.

    Args:
        positive: Whether a row's label is 1, `bool (rows,)`.
        users: A code from 0 per row's user, `(rows,)`.
        units: Number of codes, which may be larger than that of the users among the rows.

    Attributes:
        count: Number of users among the rows.
        undefined: Why there is no AUC (one label alone, no row); none if there is one.
    """

    def __init__(self, positive: Array, users: Array, units: int) -> None:
        self._positive, self._users, self._units = positive, users, units
        self._positives = int(np.count_nonzero(positive))
        self._negatives = positive.size - self._positives
        self.undefined = undefined_reason(self._positives, self._negatives)
        rows_of_user = np.bincount(users, minlength=units)
        self.count = int(np.count_nonzero(rows_of_user))
        if self.undefined is None:
            positives_of_user = np.bincount(users[positive], minlength=units)
            # What is taken off each user's sum of placements, per unit of AUC.
            self._expected: Array = positives_of_user / self._positives
            self._expected += (rows_of_user - positives_of_user) / self._negatives

    def measure(self, scores: Array) -> tuple[float, Array]:
        """Return the AUC and per-user influence values `float64 (units,)`, whose squares add up to its variance.

        Args:
            scores: Scores of any scale, the higher the likelier, `(rows,)`.

        Raises:
            ValueError: If a score is NaN, or there is no AUC.
        """
        if self.undefined is not None:
            raise ValueError(f"AUC is undefined: {self.undefined}.")
        if scores.dtype.kind == "f" and np.isnan(scores).any():
            raise ValueError("scores should not be NaN")
        order = np.argsort(scores)
        positive, users = self._positive[order], self._users[order]
        beaten = self._count_beaten(positive, scores[order])
        pairs = self._positives * self._negatives
        value = float(beaten[positive].sum() / pairs)
        return value, np.bincount(users, weights=beaten, minlength=self._units) / pairs - value * self._expected

    def _count_beaten(self, positive: Array, ascending: Array) -> Array:
        """Return, of sorted rows, how many of the other label stand on the right side of each, `float64 (rows,)`.

        Of a positive row the negatives below it, of a negative row the positives above it; ties count half.
        """
        positives_before = np.cumsum(positive)
        positives_before -= positive
        negatives_before = np.arange(positive.size) - positives_before
        beaten = np.where(positive, negatives_before, self._positives - positives_before).astype(np.float64)
        is_tied = ascending[1:] == ascending[:-1]
        if is_tied.any():
            # Only rows that share their score, which are few as a rule: [start, end) are runs of them.
            change = np.diff(is_tied.astype(np.int8), prepend=0, append=0)
            starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1) + 1
            tied_positives = positives_before[ends - 1] + positive[ends - 1] - positives_before[starts]
            of_positive = negatives_before[starts] + (ends - starts - tied_positives) / 2
            of_negative = self._positives - positives_before[starts] - tied_positives / 2
            run = np.repeat(np.arange(starts.size), ends - starts)
            row = np.arange(run.size) + np.repeat(starts - np.cumsum(ends - starts) + (ends - starts), ends - starts)
            beaten[row] = np.where(positive[row], of_positive[run], of_negative[run])
        return beaten
