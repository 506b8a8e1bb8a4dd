"""`funrec tune`: a search over configurations, every trial of which is an ordinary run."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from funrec.cli.arguments import allow, config_folders, take_allowed
from funrec.cli.console import is_live
from funrec.utils.errors import InputError
from funrec.utils.signals import EXIT_CODE

if TYPE_CHECKING:
    from funrec.tuning.study import StudyFolder


def main(arguments: Sequence[str]) -> int:
    """Search, print the best trials and how they compare with the configuration as it was; 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="funrec tune",
        description="Search a space of configurations with Optuna; every trial is an ordinary run.",
        epilog="Where and how: conf/tune.yaml, conf/search/*.yaml. Overrides: funrec tune model=mmoe search.trials=50",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of a run, and search=NAME, search.trials=50")
    parser.add_argument("--config-dir", "-cd", action="append", default=[], type=Path, help="your own configurations")
    parser.add_argument("--join", type=Path, metavar="STUDY", help="work on a study that was begun here or elsewhere")
    parser.add_argument("--force", action="store_true", help="resume although code or configuration files have changed")
    options = parser.parse_intermixed_args(take_allowed(arguments))
    _check_optuna()
    if options.join is not None:
        return resume(options.join, options.force, options.overrides)
    from funrec.config.compose import check_folder
    from funrec.tuning.api import begin

    for folder in config_folders(arguments):
        if not folder.is_dir():
            raise InputError(f"--config-dir should be a folder. Received: {folder}.")
        check_folder(folder)
    return _carry_out(lambda: begin(options.overrides, options.config_dir), options.force)


def resume(path: str | Path, force: bool = False, overrides: Sequence[str] = ()) -> int:
    """Join a study, beside other processes that work on it; return the exit code of `funrec tune`.

    Args:
        path: The study's folder.
        force: Whether to resume although code, data or configuration files have changed.
        overrides: `search.trials`, `.workers`, `.timeout` and `.confirm` may be others than before.

    Raises:
        InputError: If there is no study, or it was begun otherwise.
    """
    _check_optuna()
    from funrec.tuning.api import join
    from funrec.tuning.plan import read_plan

    allow(read_plan(Path(path)).allow.split(","))
    return _carry_out(lambda: join(Path(path), list(overrides), force), force)


def _carry_out(found: Callable[[], StudyFolder], force: bool) -> int:
    from funrec.tuning.summary import conclude
    from funrec.tuning.trial import run_study

    study = found()
    for note in study.plan.notes:
        print(note, file=sys.stderr)
    print(study.path, file=sys.stderr, flush=True)
    go_on = f"funrec resume {shlex.quote(str(study.path))}"
    try:
        run_study(study, is_live(), force)
        text = conclude(study, is_live(), force)
    except KeyboardInterrupt:
        print(f"funrec: interrupted. Go on with: {go_on}", file=sys.stderr)
        return EXIT_CODE
    except (InputError, OSError):
        print(f"Go on with: {go_on}", file=sys.stderr)
        raise
    print(text, flush=True)
    print(study.path, file=sys.stderr)
    return 0


def _check_optuna() -> None:
    if find_spec("optuna") is None:
        raise InputError('funrec tune should find Optuna. It is missing: pip install "funrec-lab[tune]".')
