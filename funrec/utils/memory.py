"""Memory that runs out, said in one line."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
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
        found = list(causes(error))
        if refusals := [cause for cause in found if isinstance(cause, OutOfMemory)]:
            _forget_layers()
            raise refusals[-1] from None  # the first one raised: Keras adds its account of the layer to the others
        if not any(type(cause).__name__ in KINDS for cause in found):
            raise
        _forget_layers()
        raise OutOfMemory(
            "A run should fit in memory. Received: out of memory. Lower trainer.batch_size, trainer.eval_batch_size or "
            "the embeddings' sizes, or run fewer jobs at a time."
        ) from error


def check_weight_fits(name: str, shape: Sequence[int]) -> None:
    """Check that a float32 weight can be trained in this machine's memory, before it is made.

    Training holds the weight, its gradient and an optimizer's two moments.

    Args:
        name: What the weight belongs to.
        shape: Its shape.

    Raises:
        OutOfMemory: If the machine has less.
    """
    needed = 4 * 4 * math.prod(shape)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > physical:
        raise OutOfMemory(
            f"The model should fit in memory. Received: a weight of shape {tuple(shape)} in {name}, which takes "
            f"{needed / 1e9:,.0f} GB to train where there are {physical / 1e9:,.0f} GB. "
            "Lower the number or the units of its networks."
        )


def _forget_layers() -> None:
    """Have Keras forget the layer it was in: it would count as around those of the process's next run."""
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session()
