"""Duration-deconfounded quantiles."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import tensorflow as tf

from funrec.models.losses.base import Array, Loss, Prediction
from funrec.utils.specs import Name, whole

#: Groups with fewer training rows than this many a quantile read the quantiles of all rows.
ROWS_PER_QUANTILE = 2


class D2Q(Loss):
    """Squared error on the quantile of a watch time among videos of about the same length.

        (sigmoid(output) - F_g(t))^2,     value = F_g^-1(sigmoid(output))

    Zhan et al., KDD 2022. `F_g` is the distribution of training watch times in the row's group `g`, its code of the
    feature `by`: a length in buckets, such as a numeric feature with `quantiles: 20`. The model then has to learn who
    likes what, and not that a long video is watched for longer. Many equal watch times (such as 0) have the quantile of
    their middle. Groups with few rows, and unknown lengths, read the quantiles of all rows. The prediction is near the
    median, below the mean of skewed watch times.

    Args:
        by: A feature with buckets of the length.
        quantiles: Points of every `F_g`, between which it is linear.
    """

    paper = "Zhan et al., KDD 2022"
    kind = "duration"

    def __init__(self, by: Name = "duration", quantiles: Annotated[int, whole(2)] = 100) -> None:
        self.by = by
        self.quantiles = quantiles

    def initial_state(self) -> dict[str, Array]:
        return {"table": np.tile(np.linspace(0, 1, self.quantiles + 1, dtype=np.float32), (self.codes, 1))}

    def fit(self, labels: Array, codes: Array | None) -> dict[str, Array]:
        points = np.linspace(0, 1, self.quantiles + 1)
        table = np.tile(np.quantile(labels, points), (self.codes, 1))
        assert codes is not None
        order = np.argsort(codes, kind="stable")
        borders = np.searchsorted(codes[order], np.arange(self.codes + 1))
        for code in range(1, self.codes):
            rows = order[borders[code] : borders[code + 1]]
            if rows.size >= ROWS_PER_QUANTILE * self.quantiles:
                table[code] = np.quantile(labels[rows], points)
        return {"table": table.astype(np.float32)}

    def initial_outputs(self, labels: Array) -> list[float] | None:
        return [0.0]

    def per_row(self, label: tf.Tensor, prediction: Prediction) -> tf.Tensor:
        return tf.square(tf.sigmoid(prediction.outputs[0]) - self.quantile_of(label, self._points(prediction)))

    def value(self, prediction: Prediction) -> tf.Tensor:
        points = self._points(prediction)
        place = tf.sigmoid(prediction.outputs[0]) * self.quantiles
        below = tf.minimum(tf.cast(place, tf.int32), self.quantiles - 1)
        low, high = (tf.gather(points, at, axis=1, batch_dims=1) for at in (below, below + 1))
        return low + (place - tf.cast(below, tf.float32)) * (high - low)

    def quantile_of(self, label: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
        """Return where labels `(batch,)` stand among the quantiles of their groups, `points (batch, quantiles + 1)`."""
        below = tf.reduce_sum(tf.cast(points < label[:, None], tf.int32), axis=1)
        up_to = tf.reduce_sum(tf.cast(points <= label[:, None], tf.int32), axis=1)
        low, high = (
            tf.gather(points, tf.clip_by_value(at, 0, self.quantiles), axis=1, batch_dims=1)
            for at in (below - 1, below)
        )
        between = tf.cast(below - 1, tf.float32) + tf.math.divide_no_nan(label - low, high - low)
        among = 0.5 * tf.cast(below + up_to - 1, tf.float32)
        return tf.clip_by_value(tf.where(up_to > below, among, between) / self.quantiles, 0.0, 1.0)

    def _points(self, prediction: Prediction) -> tf.Tensor:
        return tf.gather(self.state["table"], prediction.codes)
