"""A SavedModel: features of raw values, and the model, in one TensorFlow graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from funrec.data.arrays import ModelInputs
from funrec.export.heads import Heads
from funrec.export.inputs import NULL_ID, NULL_TEXT, PADDING_ROW, Input, cuts_below, describe_inputs, lookups

DTYPES = {"id": tf.int64, "text": tf.string, "row": tf.int64, "number": tf.float64}


def write(heads: Heads, inputs: ModelInputs, folder: Path) -> None:
    """Write the model into `folder`, with one signature, `serving_default`."""
    raw = RawModel(heads, inputs)
    module = tf.Module()  # with what is to be saved: of a Keras model, more would be
    module.variables_read = [variable.value for variable in heads.model.variables]
    module.tables = raw.tables
    module.score = tf.function(raw.score, input_signature=[raw.signature], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.score})


class RawModel:
    """A model that reads raw values."""

    def __init__(self, heads: Heads, inputs: ModelInputs) -> None:
        self._heads, self._inputs = heads, inputs
        self._described = {one.name: one for one in describe_inputs(inputs)}
        owners = {
            inputs.encoders[one.name].owner: one for one in self._described.values() if one.kind in ("id", "text")
        }
        self.tables = {str(owner): _table(inputs, str(owner), one) for owner, one in owners.items()}
        self.signature = {
            one.name: tf.TensorSpec(one.shape, DTYPES[one.kind], one.name) for one in self._described.values()
        }

    def score(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return named scores of raw values, by feature."""
        layout = self._heads.model.layout
        batch: dict[str, Any] = {
            "sequences": {one.name: self._rows(one, raw) for one in self._described.values() if one.length is not None}
        }
        rows = [self._rows(self._described[name], raw) for name in layout.id_features]
        size = tf.shape(next(iter(raw.values())))[0]
        batch["ids"] = tf.stack(rows, axis=1) if rows else tf.zeros((size, 0), tf.int32)
        if layout.numeric_features:
            batch["numeric"] = tf.stack([self._number(name, raw) for name in layout.numeric_features], axis=1)
        return self._heads(batch)

    def _rows(self, one: Input, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return embedding rows, int32; -1 where a list has ended."""
        values, encoder = raw[one.name], self._inputs.encoders[one.name]
        if one.kind == "number":
            numbers = self._filled(one.name, raw)
            cuts = tf.constant(cuts_below(encoder))
            buckets = tf.reduce_sum(tf.cast(numbers[:, None] > cuts, tf.int32), axis=1) + 1
            return tf.where(tf.math.is_nan(numbers), 0, buckets)
        if one.kind == "row":
            return tf.cast(values, tf.int32)
        rows = tf.cast(self.tables[str(encoder.owner)].lookup(values), tf.int32)
        if one.length is None:
            return rows
        return tf.where(values == (NULL_ID if one.kind == "id" else NULL_TEXT), PADDING_ROW, rows)

    def _number(self, name: str, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        encoder = self._inputs.encoders[name]
        numbers = (self._filled(name, raw) - encoder.mean) / encoder.scale
        return tf.cast(tf.where(tf.math.is_nan(numbers), tf.zeros_like(numbers), numbers), tf.float32)

    def _filled(self, name: str, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        numbers, fill = raw[name], getattr(self._inputs.encoders[name].feature, "fill", None)
        return numbers if fill is None else tf.where(tf.math.is_nan(numbers), tf.cast(fill, tf.float64), numbers)


def _table(inputs: ModelInputs, owner: str, one: Input) -> tf.lookup.StaticHashTable:
    keys, rows = lookups(inputs.vocabularies[owner], one.kind)
    values: Any = keys.tolist() if one.kind == "text" else keys
    found = tf.lookup.KeyValueTensorInitializer(values, rows, DTYPES[one.kind], tf.int64)
    return tf.lookup.StaticHashTable(found, default_value=0)


def core(heads: Heads) -> tuple[Any, list[tf.TensorSpec]]:
    """Return the model behind its lookups as a function of arrays, and the specifications of these.

    They are `funrec_ids`, `funrec_numeric` and `funrec_sequence_<place>`, those that the model reads.
    """
    layout = heads.model.layout
    specs = []
    if layout.id_features:
        specs.append(tf.TensorSpec([None, len(layout.id_features)], tf.int32, "funrec_ids"))
    if layout.numeric_features:
        specs.append(tf.TensorSpec([None, len(layout.numeric_features)], tf.float32, "funrec_numeric"))
    for place, feature in enumerate(layout.sequence_features):
        specs.append(tf.TensorSpec([None, feature.max_length], tf.int32, f"funrec_sequence_{place}"))

    def score(*arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        given = dict(zip((spec.name for spec in specs), arrays, strict=True))
        none = tf.zeros((tf.shape(arrays[0])[0], 0), tf.int32)
        batch: dict[str, Any] = {"ids": given.get("funrec_ids", none)}
        if layout.numeric_features:
            batch["numeric"] = given["funrec_numeric"]
        batch["sequences"] = {
            feature.name: given[f"funrec_sequence_{place}"] for place, feature in enumerate(layout.sequence_features)
        }
        return heads(batch)

    return tf.function(score, input_signature=specs, autograph=False), specs
