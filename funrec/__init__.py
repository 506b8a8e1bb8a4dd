"""Multi-task ranking experiments from configuration, with numbers you can trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funrec.utils.installation import VERSION as __version__
from funrec.utils.installation import check_installation

if TYPE_CHECKING:
    from funrec.comparison.compare import compare
    from funrec.experiment.api import resume, run_experiment
    from funrec.experiment.run import Run, load_run
    from funrec.tuning.api import Study, tune
    from funrec.utils.errors import InputError
    from funrec.utils.signals import Interrupted

__all__ = [
    "InputError",
    "Interrupted",
    "Run",
    "Study",
    "__version__",
    "compare",
    "load_run",
    "resume",
    "run_experiment",
    "tune",
]

_HOMES = {
    "InputError": "funrec.utils.errors",
    "Interrupted": "funrec.utils.signals",
    "Run": "funrec.experiment.run",
    "Study": "funrec.tuning.api",
    "compare": "funrec.comparison.compare",
    "load_run": "funrec.experiment.run",
    "resume": "funrec.experiment.api",
    "run_experiment": "funrec.experiment.api",
    "tune": "funrec.tuning.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `funrec --help` waits for nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'funrec' has no attribute {name!r}")
    from importlib import import_module

    check_installation()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
