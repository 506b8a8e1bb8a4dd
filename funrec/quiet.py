"""TensorFlow without its preamble."""

from __future__ import annotations

import os
import sys


def load_tensorflow() -> None:
    """Import TensorFlow without the notes on drivers and instruction sets it writes past Python to standard error."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for drivers, and says so, when first called
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
