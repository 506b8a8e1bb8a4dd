"""Memory that runs out, said in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from funrec.utils.errors import InputError, causes

#: Python's own error, and TensorFlow's, which may come wrapped in Keras' account of the layer it happened in.
KINDS = ("MemoryError", "ResourceExhaustedError")


class OutOfMemory(InputError):
    """A run needs more memory than its process may take."""


@contextmanager
def memory_errors_in_one_line() -> Iterator[None]:
    """Turn an error that says memory ran out into one line.

    Raises:
        OutOfMemory: In its place.
    """
    try:
        yield
    except Exception as error:
        if not any(type(cause).__name__ in KINDS for cause in causes(error)):
            raise
        _forget_layers()
        raise OutOfMemory(
            "A run should fit in memory. Received: out of memory. Lower trainer.batch_size, trainer.eval_batch_size or "
            "the embeddings' sizes, or run fewer jobs at a time."
        ) from error


def _forget_layers() -> None:
    """Have Keras forget the layer it was in: it would count as around those of the process's next run."""
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session()
