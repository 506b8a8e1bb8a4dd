"""Backbones that make trouble in the process they train in, for `--allow troublemakers`."""

from __future__ import annotations

import os
import signal
from typing import Any

from funrec.models.backbones.shared_bottom import SharedBottom


class Killed(SharedBottom):
    """Its process is killed, as the system does when memory runs out."""

    def embedding_layout(self, *arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Hungry(SharedBottom):
    """It takes a terabyte."""

    def embedding_layout(self, *arguments: Any, **options: Any) -> Any:
        return bytearray(1 << 40)


class Broken(SharedBottom):
    """It has a bug, not a user's mistake."""

    def embedding_layout(self, *arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("division by zero\nand a second line")
