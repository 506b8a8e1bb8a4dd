"""What the commands have in common: the terminal they write to, and how they report errors."""

from __future__ import annotations

import errno
import shutil
import sys

from funrec.utils.errors import InputError

#: Errors of a full or read-only disk; any other error of the system is a bug of funrec.
DISK_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
}


def reason(error: InputError | OSError) -> str:
    """Return what to tell the user; an error of the system that does not come from the disk is raised again."""
    if isinstance(error, InputError):
        return str(error)
    if error.errno not in DISK_ERRORS:
        raise error
    return f"{error.filename or 'the disk'} cannot be written: {error.strerror}. Free some space or choose another."


def is_live() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def width() -> int | None:
    """Return the terminal's width; None where the table goes to a file, which has no limit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
