"""TensorFlow without its preamble."""

from __future__ import annotations

import os
import sys


def load_tensorflow(look_for_devices: bool = True) -> None:
    """Import TensorFlow without the notes on drivers and instruction sets it writes past Python to standard error.

    Args:
        look_for_devices: Whether to have it look for devices right away, which it comments on too. A process that has
            done so should not be forked where there is a GPU.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        if look_for_devices:
            tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
