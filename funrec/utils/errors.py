"""Errors that users can mend, their wording, and the exception that ends a run early."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """Something the user gave is not as it should be.

    The message is one line that says what should hold, what came, and what to do. The command line
    prints it without a traceback and exits with code 2; every other exception is a bug in funrec.
    """


class Pruned(Exception):
    """Raised by an `on_epoch` hook to end a run early; the run's folder then says "pruned"."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def did_you_mean(name: object, candidates: Iterable[object]) -> str:
    """Return ` Did you mean x?` for the nearest candidate, else a short list of what there is."""
    known = [str(candidate) for candidate in candidates]
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {by_lower_case[near[0]]}?"
    if not known:
        return ""
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f" There is: {shown}."
