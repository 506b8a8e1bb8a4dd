"""Multi-task ranking experiments from configuration, with numbers you can trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funrec.comparison.compare import compare
    from funrec.experiment.experiment import load_run, resume, run_experiment
    from funrec.experiment.run import Run
    from funrec.tuning.api import Study, tune
    from funrec.utils.errors import InputError
    from funrec.utils.signals import Interrupted

__version__ = "0.1.0"
__all__ = ["InputError", "Interrupted", "Run", "Study", "compare", "load_run", "resume", "run_experiment", "tune"]

_HOMES = {
    "InputError": "funrec.utils.errors",
    "Interrupted": "funrec.utils.signals",
    "Run": "funrec.experiment.run",
    "Study": "funrec.tuning.api",
    "compare": "funrec.comparison.compare",
    "load_run": "funrec.experiment.experiment",
    "resume": "funrec.experiment.experiment",
    "run_experiment": "funrec.experiment.experiment",
    "tune": "funrec.tuning.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `funrec --help` waits for nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'funrec' has no attribute {name!r}")
    from importlib import import_module

    check_installation()
    return getattr(import_module(_HOMES[name]), name)


def check_installation(site: Path = Path(__file__).parents[1]) -> None:
    """Check that the other project that is distributed as `funrec` is not installed into the same folder.

    Raises:
        InputError: If it is: its modules and ours are mixed then.
    """
    for other in site.glob("funrec-*.dist-info"):
        from funrec.utils.errors import InputError

        raise InputError(
            f"{site} should hold one package funrec. Received: that of funrec-lab, and another project's "
            f"{other.name.removesuffix('.dist-info')}. Run pip uninstall funrec, then pip install --force-reinstall "
            "--no-deps funrec-lab."
        )


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
