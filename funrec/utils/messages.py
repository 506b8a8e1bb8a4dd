"""Where what funrec says goes, for a run that Python starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def messages(folder: Path, verbose: bool) -> Iterator[None]:
    """Send what funrec says to the run's log, and to standard error if asked, and leave logging as it was."""
    logger = logging.getLogger("funrec")
    level, propagate = logger.level, logger.propagate
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "funrec.log")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
