"""Where Optuna keeps the trials of a study: a SQLite file, a database's URL, or a journal on a shared disk."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import SQLAlchemyError

from funrec.utils.errors import InputError
from funrec.utils.files import one_line
from funrec.utils.locks import wait_for_lock


def open_storage(path: Path, storage: str | None) -> BaseStorage:
    """Return the storage of the study in the folder `path`, made if it is new; see `funrec.tuning.settings.Settings`.

    Raises:
        InputError: If it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(path):
        if storage == "journal":
            file = path / "journal.log"
            return JournalStorage(JournalFileBackend(str(file), _JournalLock(file)))
        if storage is not None:
            return RDBStorage(storage)
        seconds = {"timeout": 60}  # to wait while another process writes
        return RDBStorage(f"sqlite:///{path / 'study.db'}", engine_kwargs={"connect_args": seconds})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of a study's storage into one line.

    Raises:
        InputError: In their place.
    """
    try:
        with optuna_warnings_ignored():
            yield
    except (StorageInternalError, SQLAlchemyError, ImportError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} should have a storage that can be used. Received: {one_line(error.__cause__ or error)}. Mend "
            "that, or begin a study with another search.storage."
        ) from error


@contextmanager
def optuna_warnings_ignored() -> Iterator[None]:
    """Ignore Optuna's warnings: that a part of it is experimental, or that it takes less for better."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", module="optuna")
        yield


class _JournalLock(JournalFileOpenLock):
    """A kernel lock on a journal; Optuna's own lock files outlive a killed process for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        """Take the lock, and remove the line that a killed process or a full disk cut short."""
        self._lock = wait_for_lock(self._path.with_name(f".{self._path.name}.lock"))
        content = self._path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(self._path, content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
