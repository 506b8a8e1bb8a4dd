"""Keras callbacks beside the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from funrec.config.build import build
from funrec.models.model import MultiTaskModel
from funrec.utils.errors import InputError
from funrec.utils.files import one_line


class Callbacks:
    """Calls Keras callbacks at the start, after every epoch with its row of the history, and at the end.

    `specs` are `_target_` and arguments of each, by a name of its own; `InputError` if one is no callback.
    """

    def __init__(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
        self._callbacks = [build(specs[name], keras.callbacks.Callback, f"trainer.callbacks.{name}") for name in specs]

    @contextmanager
    def running(self, model: MultiTaskModel, epochs: int) -> Iterator[None]:
        """Call them at the start and at the end, whatever ended the training between."""
        model.stop_training = False
        self._model, self._list = model, keras.callbacks.CallbackList(self._callbacks, model=model, epochs=epochs)
        with _refusals():
            self._list.on_train_begin()
        try:
            yield
        finally:
            self._list.on_train_end()

    def end_epoch(self, row: Mapping[str, Any]) -> None:
        """Call them after an epoch, or after one that a checkpoint has behind it."""
        with _refusals():
            self._list.on_epoch_end(row["epoch"] - 1, dict(row))

    @property
    def wants_to_stop(self) -> bool:
        """Whether one of them has asked to stop the training."""
        return bool(self._model.stop_training)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # such as a metric whose better direction a callback cannot tell
        raise InputError(f"trainer.callbacks: {one_line(error)}") from error
