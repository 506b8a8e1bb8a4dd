"""Optuna's journal as a file: an operation a line, appended under a kernel lock, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from funrec.utils.errors import InputError
from funrec.utils.locks import locked


class Journal(BaseJournalBackend):
    """The journal that all processes of a study append to.

    Optuna's own file backend locks by a file, which a killed process leaves behind for half a minute, and appends to
    the line that a killed process did not finish, after which neither can be read. Here the lock dies with its process,
    and whoever writes next cuts the unfinished line off.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = [0]
        path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from a number on; a line that is being written is none yet.

        Raises:
            InputError: If the file is damaged.
        """
        known = min(log_number_from, len(self._offsets) - 1)
        with self._path.open("rb") as file:
            file.seek(self._offsets[known])
            for number, line in enumerate(file, start=known):
                if not line.endswith(b"\n"):
                    return
                if number + 1 == len(self._offsets):
                    self._offsets.append(self._offsets[number] + len(line))
                if number >= log_number_from:
                    yield self._parse(number, line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, and return once they are on the disk."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with locked(self._path.with_name(f".{self._path.name}.lock")), self._path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            if (whole := _end_of_last_line(file, end)) < end:
                file.truncate(whole)
            file.seek(whole)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self._path} is damaged in line {number + 1}: {error}. Begin a new study.") from error
        return parsed


def _end_of_last_line(file: Any, end: int) -> int:
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        place = int(file.read(end - start).rfind(b"\n"))
        if place >= 0:
            return start + place + 1
        end = start
    return 0
