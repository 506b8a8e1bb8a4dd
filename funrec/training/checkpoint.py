"""Weights on disk: written whole or not at all, and read into a model built from its configuration."""

from __future__ import annotations

import os
from pathlib import Path

from funrec.errors import InputError
from funrec.models.model import MultiTaskModel

WEIGHTS = "model.weights.h5"


def save_weights(model: MultiTaskModel, folder: Path) -> None:
    """Write the model's weights into `folder`, in place of those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished.{WEIGHTS}"
    model.save_weights(unfinished)
    os.replace(unfinished, folder / WEIGHTS)


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Read the weights in `folder` into an initialised model of the same configuration.

    Raises:
        InputError: If there are none.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise InputError(f"{path}: no such file. A run's weights are written at the end of its best epoch.")
    model.load_weights(path)
