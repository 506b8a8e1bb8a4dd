"""A `.keras` archive: weights and configuration, for Keras with funrec installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import polars as pl
import tensorflow as tf

from funrec.calibration.base import Fitted
from funrec.config.inputs import read_feature
from funrec.data.arrays import ModelInputs
from funrec.data.features.encoding import Encoder
from funrec.data.features.vocabulary import Vocabulary
from funrec.data.hashing import KEY_DTYPES
from funrec.experiment.building import build_model
from funrec.export.heads import Heads
from funrec.export.savedmodel import RawModel
from funrec.models.model import MultiTaskModel
from funrec.runs.formula import Formula, Term
from funrec.schema import Task
from funrec.utils.files import to_plain
from funrec.utils.installation import VERSION

README = """\
# model.keras

Reads raw values, as `export.json` lists them, and returns named scores. Its layers are funrec's own, so Keras loads it
where funrec {version} or later is installed (`pip install funrec-lab`):

    import keras, tensorflow as tf
    from funrec.export.archive import ExportedModel

    model = keras.saving.load_model("model.keras", {{"ExportedModel": ExportedModel}})
    scores = model({{"user_id": tf.constant([1, 2], tf.int64), ...}})

Without funrec, Keras reads a SavedModel (`funrec export RUN --format savedmodel`) as a layer:

    keras.layers.TFSMLayer("model", call_endpoint="score", dtype="float64")
"""


@keras.saving.register_keras_serializable(package="funrec")
class ExportedModel(keras.Model):
    """A finished run's model on raw values, trainable and saved like any Keras model.

    Args:
        settings: The run's `model` configuration, and `precision`.
        inputs: What `_to_plain` made of its inputs, vocabularies included.
        calibration: The curves of its scores, if it is calibrated.
        formula: The terms and the text of its fused score, if it has one.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Any],
        calibration: Mapping[str, Any] | None = None,
        formula: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(autocast=False, **options)  # numbers are float64
        config = {"settings": settings, "inputs": inputs, "calibration": calibration, "formula": formula}
        self._config = json.dumps(to_plain(config))  # as text: Keras would take its lists for lists of layers
        read = _from_plain(inputs)
        self.model: MultiTaskModel = build_model(settings["model"], read.tasks, read.layout, settings["precision"])
        self.model.initialise(0)
        fused = None
        if formula is not None:
            fused = Formula(tuple(Term(**term) for term in formula["terms"]), formula["text"])
        curves = None if calibration is None else Fitted.from_json(calibration)
        self._raw = RawModel(Heads(self.model, curves, fused), read)
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return named scores of raw values, by feature."""
        return self._raw.score(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **json.loads(self._config)}


def write(heads: Heads, inputs: ModelInputs, path: Path, config: Mapping[str, Any]) -> None:
    """Write the model of a run of this configuration to `path`, and a README beside it."""
    settings = {"model": config["model"], "precision": config["trainer"]["precision"]}
    calibration = None if heads.calibration is None else asdict(heads.calibration)
    formula = None if heads.formula is None else asdict(heads.formula)
    exported = ExportedModel(settings, _to_plain(inputs), calibration, formula)
    for variable, trained in zip(exported.model.weights, heads.model.weights, strict=True):
        variable.assign(trained)
    exported.save(path)
    path.with_name("README.md").write_text(README.format(version=VERSION), encoding="utf-8")


def _to_plain(inputs: ModelInputs) -> dict[str, Any]:
    return {
        "features": [feature.to_plain() for feature in inputs.layout.features],
        "tasks": [asdict(task) for task in inputs.tasks],
        "domain": inputs.domain,
        **inputs.to_plain(),
        "keys": {name: vocabulary.keys.to_list() for name, vocabulary in inputs.vocabularies.items()},
    }


def _from_plain(plain: Mapping[str, Any]) -> ModelInputs:
    features = [read_feature(values) for values in plain["features"]]
    vocabularies = {
        name: Vocabulary(pl.Series(plain["keys"][name], dtype=KEY_DTYPES[one["key"]]), None, **one)
        for name, one in plain["vocabularies"].items()
    }
    return ModelInputs(
        tasks=tuple(Task(**values) for values in plain["tasks"]),
        encoders={feature.name: Encoder(feature, **plain["encoders"][feature.name]) for feature in features},
        vocabularies=vocabularies,
        domain=plain["domain"],
    )
