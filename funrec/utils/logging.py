"""Where messages go: those of funrec to a run's log, those that TensorFlow writes on import nowhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"  # that of conf/hydra/job_logging


@contextmanager
def logging_to(folder: Path, verbose: bool) -> Iterator[None]:
    """Send funrec's messages to the run's log, and to standard error if asked; restore logging at the end."""
    logger = logging.getLogger("funrec")
    level, propagate = logger.level, logger.propagate
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "funrec.log")]
    handlers[0].setFormatter(logging.Formatter(FORMAT))
    if verbose:
        handlers.append(console := logging.StreamHandler())
        console.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    except Exception:
        logger.debug("The run failed.", exc_info=True)
        raise
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def load_tensorflow(look_for_devices: bool = True) -> None:
    """Import TensorFlow without the notes on drivers and instruction sets that it writes to standard error.

    Args:
        look_for_devices: Whether to look for devices right away, which also writes notes. A process that has done so
            should not be forked where there is a GPU.
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
