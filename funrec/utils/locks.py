"""Kernel locks on files. A lock ends with its process, however that ends, so a held lock means a live holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from funrec.utils.errors import InputError

#: Seconds to wait for a lock that should be free: `is_locked` in another process holds it for an instant.
MOMENT = 1.0


def take_lock(path: Path, wait: float = 0.0) -> filelock.BaseFileLock | None:
    """Return the lock on `path`, to be released by its owner; None if another process keeps it for `wait` seconds.

    Args:
        path: The lock's file, made if missing; it stays.
        wait: Seconds.
    """
    if not path.parent.is_dir():  # filelock would make it
        raise InputError(f"{path.parent} should be a folder to write to: no such folder. Choose another.")
    # Without `flock`, filelock would fall back to marker files, which outlive a killed process.
    lock = filelock.FileLock(path, timeout=wait, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path.parent} should be a folder to write to: {reason}. Choose another.") from error
    return lock


def wait_for_lock(path: Path) -> filelock.BaseFileLock:
    """Return the lock on `path`, once no other process has it. Errors are those of `take_lock`."""
    while (lock := take_lock(path, wait=60)) is None:
        pass
    return lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on `path`, once no other process does."""
    lock = wait_for_lock(path)
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on `path`. Reads only, so it works on other people's folders too."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, which filelock does not offer: two processes that look at the same time do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
