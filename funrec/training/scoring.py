"""Scoring a split: the one path from a model to the numbers that metrics read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from funrec.models.model import MultiTaskModel
from funrec.training.batches import Rows, take_features
from funrec.training.shards import cut

#: Matrix products round the last few rows of an odd number differently; whole blocks make a row's score its own,
#: wherever it stands and however many are scored with it.
ALIGNMENT = 64


class ScoreNotANumber(ArithmeticError):
    """The scores of `head` hold NaN."""

    def __init__(self, head: str) -> None:
        super().__init__(f"The scores of {head} hold NaN.")
        self.head = head


class Scorer:
    """Scores rows with an initialised model, its weights as they are at each call.

    Batches are whole and of one shape; `shards` parts of each run beside each other, see `funrec.training.shards`.
    """

    def __init__(self, model: MultiTaskModel, batch_size: int = 8192, shards: int = 1) -> None:
        self.model = model
        self.batch_size = batch_size
        self.shards = shards
        self._graphs: dict[int, Any] = {}  # by rows per batch

    def _score_batch(self, batch: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        parts = cut(batch, self.shards, ALIGNMENT)
        logits = tf.concat([self.model(part, training=False) for part in parts], axis=1)
        return self.model.scores(logits, batch)

    def score(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return every head's scores over all rows, float32 `(rows,)`: logits, or values for regression.

        Raises `ScoreNotANumber` if one is NaN: the model has diverged.
        """
        size = len(rows)
        batch_size = min(self.batch_size, -(-max(size, 1) // ALIGNMENT) * ALIGNMENT)
        scores: dict[str, np.ndarray] = {}
        for start in range(0, max(size, 1), batch_size):  # no rows: scores by name all the same
            stop = min(size, start + batch_size)
            features = take_features(rows, self.model.layout, slice(start, stop))
            if stop - start < batch_size:  # one shape, hence one graph
                features = tf.nest.map_structure(lambda x: _pad_rows(x, batch_size), features)
            if batch_size not in self._graphs:
                self._graphs[batch_size] = trace(self._score_batch, features)
            for name, values in self._graphs[batch_size](features).items():
                scores.setdefault(name, np.empty(size, np.float32))[start:stop] = values.numpy()[: stop - start]
        for name, values in scores.items():
            if np.isnan(values).any():
                raise ScoreNotANumber(name)
        return scores


def trace(function: Callable[..., Any], features: Mapping[str, Any]) -> Any:
    """Return the graph of a function of a batch like `features`.

    Traced by hand: called as a tf.function, the fifth model of a sweep would be warned of retracing.
    """
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), dict(features))
    specs["sequences"] = {  # as long as the longest of the batch
        name: tf.TensorSpec([len(values), None], values.dtype) for name, values in features["sequences"].items()
    }
    return tf.function(function, autograph=False).get_concrete_function(specs)


def _pad_rows(values: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(values, [(0, rows - len(values))] + [(0, 0)] * (values.ndim - 1))
