"""Weights on disk: written whole or not at all, and read into a model built from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from funrec.models.model import MultiTaskModel
from funrec.utils.errors import InputError
from funrec.utils.files import read_arrays, write_arrays

# NumPy's format rather than HDF5, whose library crashes the process when the disk fills up.
WEIGHTS = "weights.npz"
EPOCH = "epoch"


def copy_to_host(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Return what variables hold now, whatever becomes of them."""
    # One copy of a table that is trained in place, none of a weight that is replaced; `numpy` would make two.
    return [np.asarray(variable.value.read_value()) for variable in variables]


def save_weights(model: MultiTaskModel, folder: Path) -> None:
    """Write the model's weights into `folder`, in place of those that are there.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    write_weights(copy_to_host(model.weights), folder)


def write_weights(
    weights: Sequence[np.ndarray], folder: Path, epoch: int = 0, is_cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Write copies of a model's weights into `folder`, in place of those that are there.

    Args:
        weights: In the model's order.
        folder: Made where it is missing.
        epoch: The epoch they were trained for, counted from 1; see `load_weights`.
        is_cancelled: See `funrec.utils.files.write_arrays`.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created: {error.strerror}. Choose another output folder.") from error
    arrays = {str(place): array for place, array in enumerate(weights)} | {EPOCH: np.asarray(epoch)}
    write_arrays(folder / WEIGHTS, arrays, is_cancelled=is_cancelled)


def load_weights(model: MultiTaskModel, folder: Path, epoch: int | None = None) -> None:
    """Read the weights in `folder` into an initialised model of the same configuration.

    Args:
        model: The model.
        folder: Where `save_weights` wrote.
        epoch: The epoch whose weights these should be; any if none.

    Raises:
        InputError: If there are none, they are damaged, another model's or another epoch's.
    """
    path = folder / WEIGHTS
    try:
        arrays = read_arrays(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path}: no such file. A run that is to score rows later needs trainer.keep=best (or all). Run it again."
        ) from None
    found = int(arrays.pop(EPOCH, np.asarray(0)))
    weights = [arrays.get(str(place)) for place in range(len(arrays))]
    shapes = [tuple(variable.shape) for variable in model.weights]
    if [None if array is None else array.shape for array in weights] != shapes:
        raise InputError(f"{path} should hold the weights of this model. Received: another model's.")
    if epoch is not None and found != epoch:
        raise InputError(f"{path} should hold the weights of epoch {epoch}. Received: epoch {found}. Run it again.")
    for variable, array in zip(model.weights, weights, strict=True):
        variable.assign(array)


def weights_epoch(folder: Path) -> int | None:
    """Return the epoch of the weights in `folder`; none if there are none, or they are damaged."""
    try:
        return int(read_arrays(folder / WEIGHTS)[EPOCH])
    except (FileNotFoundError, NotADirectoryError, KeyError, InputError):
        return None
