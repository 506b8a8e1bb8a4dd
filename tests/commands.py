"""The command line as a function, for tests in one process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


class process_unchanged:
    """Undo what a command of its own process may do: logging, arguments, environment, Hydra."""

    def __enter__(self) -> None:
        root, ours = logging.getLogger(), logging.getLogger("funrec")
        self._logging = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in (root, ours)]
        self._arguments, self._environment, self._raises = sys.argv, dict(os.environ), logging.raiseExceptions

    def __exit__(self, *exception: object) -> None:
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig

        for logger, level, propagate, handlers in self._logging:
            for handler in logger.handlers:
                if handler not in handlers:
                    handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
        sys.argv, logging.raiseExceptions = self._arguments, self._raises
        os.environ.clear()
        os.environ.update(self._environment)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
