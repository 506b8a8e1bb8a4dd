"""How much of its experts a trained model uses: gates looked at from outside, so that a collapse shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from funrec.models.model import MultiTaskModel
from funrec.training.batches import Rows, take_features
from funrec.training.scoring import trace

BATCHES = 8
BATCH_SIZE = 8192
#: A row hardly uses an expert that gets less than this share of what each would get if all got the same.
UNUSED_BELOW = 0.1


class GateMeter:
    """Measures every gate of an initialised model, with its weights as they are at each call, over rows of a split."""

    def __init__(self, model: MultiTaskModel) -> None:
        self.model = model
        self._groups: list[tuple[str, tuple[str, ...], tuple[str, ...], int]] = []
        self._graphs: dict[int, Any] = {}  # by rows per batch

    def measure(self, rows: Rows) -> list[dict[str, Any]]:
        """Return a plain row per gate; empty where the backbone has none.

        At most 65,536 rows, spread evenly, are looked at. Keys: `gate` (its place, such as `level_1`), `reader` (a
        tower's name, or `shared`), `experts` (their names), `weight` (the mean weight of each), `deviation` (its
        standard deviation over rows), `unused` (by expert: the share of rows in which it gets less than a tenth of an
        equal share), `entropy` (the mean over rows of the weights' entropy over that of equal weights: 1 mixes all
        experts alike, 0 takes one) and `num_shared` (how many experts, the last ones, all readers share).
        """
        batch_size = min(BATCH_SIZE, len(rows))
        batches = min(BATCHES, len(rows) // batch_size)
        places = np.linspace(0, len(rows) - 1, batches * batch_size).astype(np.int64)
        totals: list[Any] = []
        for index in np.split(places, batches):
            features = take_features(rows, self.model.layout, index)
            if batch_size not in self._graphs:
                self._graphs[batch_size] = trace(self._measure_batch, features)
            measured = [value.numpy() for value in self._graphs[batch_size](features)]
            totals = [total + value for total, value in zip(totals, measured, strict=True)] if totals else measured
        means = [total / batches for total in totals]
        found = []
        for place, (gate, readers, experts, num_shared) in enumerate(self._groups):
            weight, square, unused, entropy = means[4 * place : 4 * place + 4]
            deviation = np.sqrt(np.maximum(square - np.square(weight), 0.0))
            columns = {"weight": weight, "deviation": deviation, "unused": unused, "entropy": entropy}
            for number, reader in enumerate(readers):
                values = {name: column[number].tolist() for name, column in columns.items()}
                found.append(
                    {"gate": gate, "reader": reader, "experts": list(experts), **values, "num_shared": num_shared}
                )
        return found

    def _measure_batch(self, batch: Mapping[str, Any]) -> list[tf.Tensor]:
        groups = self.model.backbone.gates_of(self.model.read(self.model.embed(batch)))
        self._groups = [(group.name, group.readers, group.experts, group.num_shared) for group in groups]
        means = []
        for group in groups:
            weights = tf.cast(group.weights, tf.float32)  # (readers, batch, experts)
            size = len(group.experts)
            entropy = -tf.reduce_sum(tf.math.xlogy(weights, weights), axis=-1) / max(float(np.log(size)), 1e-12)
            unused = tf.cast(weights < UNUSED_BELOW / size, tf.float32)
            means += [tf.reduce_mean(value, 1) for value in (weights, tf.square(weights), unused, entropy)]
        return means


def gate_columns(gates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what `GateMeter.measure` found as columns of a history.

    Named `gate.<reader>[.<gate>].<expert>.weight`, `….unused`, and `gate.<reader>[.<gate>].entropy`.
    """
    columns = {}
    for gate in gates:
        start = ".".join(filter(None, ["gate", gate["reader"], gate["gate"]]))
        columns[f"{start}.entropy"] = gate["entropy"]
        for expert, weight, unused in zip(gate["experts"], gate["weight"], gate["unused"], strict=True):
            columns[f"{start}.{expert}.weight"] = weight
            columns[f"{start}.{expert}.unused"] = unused
    return columns
