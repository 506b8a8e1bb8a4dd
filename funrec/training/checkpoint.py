"""Weights on disk: written whole or not at all, and read into a model built from its configuration."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from funrec.errors import InputError
from funrec.files import one_line, replacing
from funrec.models.model import MultiTaskModel

# NumPy's format rather than HDF5, whose library crashes the process when the disk fills up.
WEIGHTS = "weights.npz"


def save_weights(model: MultiTaskModel, folder: Path) -> None:
    """Write the model's weights into `folder`, in place of those that are there.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created: {error.strerror}. Choose another output folder.") from error
    weights = {str(place): variable.numpy() for place, variable in enumerate(model.weights)}
    with replacing(folder / WEIGHTS) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Read the weights in `folder` into an initialised model of the same configuration.

    Raises:
        InputError: If there are none, they are damaged, or they are another model's.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise InputError(f"{path}: no such file. A run's weights are written at the end of its best epoch.")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):  # NumPy leaves what is no archive open
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            weights = [archive[str(place)] for place in range(len(archive.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}. Run it again.") from error
    shapes = [tuple(variable.shape) for variable in model.weights]
    if [array.shape for array in weights] != shapes:
        raise InputError(f"{path} should hold the weights of this model. Received: another model's.")
    for variable, array in zip(model.weights, weights, strict=True):
        variable.assign(array)
