"""Rows read as an earlier run read its own, so that its model's weights mean the same: its vocabularies, extended."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from funrec.data.arrays import INPUTS, ModelInputs, load_inputs
from funrec.data.datasets.base import Dataset
from funrec.data.features.encoding import Encoder
from funrec.data.features.vocabulary import Vocabulary
from funrec.schema import CategoricalFeature, Feature
from funrec.utils.errors import InputError

#: Keys of a feature that may differ: they say which new ids are taken in.
_KEYS_OF_NEW_IDS = {"known_before", "min_count", "max_vocabulary"}


@dataclass(frozen=True)
class Known:
    """How an earlier run reads its rows.

    Attributes:
        run: Its folder, for messages.
        inputs: Its encoders and vocabularies.
        digest: Their hash.
    """

    run: Path
    inputs: ModelInputs
    digest: str

    @staticmethod
    def read(run: Path) -> Known:
        """Read it from a run's folder."""
        folder = run / "model"
        inputs, digest = load_inputs(folder), hashlib.sha256()
        for path in (folder / INPUTS, *sorted(folder.glob("vocabulary_*.parquet"))):
            digest.update(path.name.encode() + path.read_bytes())
        return Known(run, inputs, digest.hexdigest()[:16])

    def check_features(self, dataset: Dataset) -> None:
        """Refuse a dataset whose features are not those of the run."""
        before = {feature.name: _reading(feature) for feature in self.inputs.layout.features}
        now = {feature.name: _reading(feature) for feature in dataset.features}
        problem = None
        if missing := [name for name in before if name not in now]:
            problem = f"without {', '.join(missing)}"
        elif new := [name for name in now if name not in before]:
            problem = f"also {', '.join(new)}"
        elif list(before) != list(now):
            problem = f"the order {', '.join(now)}"
        elif self.inputs.domain != dataset.domain:
            problem = f"the domain {dataset.domain} instead of {self.inputs.domain}"
        else:
            for name, keys in before.items():
                for key, value in keys.items():
                    if now[name].get(key) != value:
                        problem = f"{name}.{key}={now[name].get(key)} instead of {value}"
        if problem is not None:
            raise InputError(
                f"trainer.start_from: {self.run} should have the features of this run. Received: {problem}. "
                "Choose the same dataset and features, or leave trainer.start_from out."
            )

    def extend(
        self, encoders: Mapping[str, Encoder], vocabularies: Mapping[str, Vocabulary]
    ) -> tuple[dict[str, Encoder], dict[str, Vocabulary]]:
        """Return what was fitted to new training rows in terms of the run.

        Numbers are scaled and cut as they were; ids keep their rows, and new ones come after them.
        """
        extended = {}
        for name, fitted in vocabularies.items():
            before, feature = self.inputs.vocabularies[name], encoders[name].feature
            assert isinstance(feature, CategoricalFeature)
            if before.key != fitted.key:
                raise InputError(
                    f"dataset.features.{name} should hold {before.key} values, as {self.run} has it. "
                    f"Received: {fitted.key}."
                )
            extended[name] = before.extended(fitted, feature.max_vocabulary)
        kept = {}
        for name, encoder in encoders.items():
            known = self.inputs.encoders[name]
            kept[name] = replace(encoder, mean=known.mean, scale=known.scale, boundaries=known.boundaries)
        return kept, extended


def _reading(feature: Feature) -> dict[str, Any]:
    """Return how a feature is read, in the form that it has once it was saved."""
    plain = {key: value for key, value in feature.to_plain().items() if key not in _KEYS_OF_NEW_IDS}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
