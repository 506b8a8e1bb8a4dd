"""Which funrec this is: its version, and whether another project of that name is installed over it."""

from __future__ import annotations

from pathlib import Path

from funrec.utils.errors import InputError

VERSION = "0.1.0"


def check_installation(site: Path = Path(__file__).parents[2]) -> None:
    """Check that the other project that is distributed as `funrec` is not installed into the same folder."""
    for other in site.glob("funrec-*.dist-info"):
        raise InputError(
            f"{site} should hold one package funrec. Received: that of funrec-lab, and another project's "
            f"{other.name.removesuffix('.dist-info')}. Run pip uninstall funrec, then pip install --force-reinstall "
            "--no-deps funrec-lab."
        )
