"""What a model needs to read raw rows, kept beside its weights: how each feature is read, and its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from funrec.data.arrays import PreparedData, SplitArrays, encode_rows
from funrec.data.features.encoding import Encoder, load_encoders, save_encoders
from funrec.data.features.vocabulary import Vocabulary
from funrec.schema import InputLayout, Task, read_feature
from funrec.utils.errors import InputError
from funrec.utils.files import read_json, write_json

INPUTS = "inputs.json"


@dataclass(frozen=True)
class ModelInputs:
    """How raw rows become a model's inputs, independent of the data set and its cache.

    Attributes:
        tasks: The tasks the model was trained for.
        encoders: How each feature is read, by name.
        vocabularies: By the name of the feature that owns it.
        layout: Which features the arrays hold.
    """

    tasks: tuple[Task, ...]
    encoders: Mapping[str, Encoder]
    vocabularies: Mapping[str, Vocabulary]
    layout: InputLayout

    @property
    def columns(self) -> list[str]:
        """The raw columns that are read."""
        return list(dict.fromkeys(encoder.feature.column for encoder in self.encoders.values()))

    def encode(self, frame: pl.DataFrame) -> SplitArrays:
        """Encode raw rows as the training split taught; an unknown id becomes row 0.

        Raises:
            InputError: If a feature's column is missing, or a number is none.
        """
        return encode_rows(self.encoders, self.vocabularies, frame)


def save_inputs(data: PreparedData, folder: Path) -> None:
    """Write what `load_inputs` reads into `folder`.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "features": [feature.to_plain() for feature in data.features],
        "tasks": [asdict(task) for task in data.tasks],
        **save_encoders(data.encoders, data.vocabularies, folder),
        "cardinalities": dict(data.cardinalities),
        "id_features": data.id_features,
        "numeric_features": data.numeric_features,
    }
    write_json(folder / INPUTS, state)


def load_inputs(folder: Path) -> ModelInputs:
    """Read what `save_inputs` wrote.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        state = read_json(folder / INPUTS)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} should hold a model and its {INPUTS}. It does not: run it again.") from None
    features = tuple(read_feature(values) for values in state["features"])
    encoders, vocabularies = load_encoders(features, state, folder)
    return ModelInputs(
        tasks=tuple(Task(**values) for values in state["tasks"]),
        encoders=encoders,
        vocabularies=vocabularies,
        layout=InputLayout(
            features, tuple(state["id_features"]), tuple(state["numeric_features"]), state["cardinalities"]
        ),
    )
