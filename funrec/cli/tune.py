"""`funrec tune`: a search over configurations, every trial of which is an ordinary run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser, add_folder_option, bring_folders
from funrec.cli.console import is_live
from funrec.utils.errors import InputError
from funrec.utils.signals import EXIT_CODE


def main(arguments: Sequence[str]) -> int:
    """Search, print the best trials and how they compare with the configuration as it was; 130 if interrupted."""
    parser = Parser(
        prog="funrec tune",
        description="Search a space of configurations with Optuna; every trial is an ordinary run.",
        epilog="Where and how: conf/tune.yaml, conf/search/*.yaml. Overrides: funrec tune model=mmoe search.trials=50",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of a run, and search=NAME, search.trials=50")
    add_folder_option(parser)
    parser.add_argument("--join", type=Path, metavar="STUDY", help="work on a study that was begun here or elsewhere")
    parser.add_argument("--force", action="store_true", help="resume although code or configuration files have changed")
    options = parser.parse_intermixed_args(arguments)
    bring_folders(options.config_dir)
    return carry_out(options.join, options.overrides, options.force)


def carry_out(joined: Path | None, overrides: Sequence[str], force: bool) -> int:
    """Begin a study, or join one beside other processes that work on it; return the exit code.

    Args:
        joined: The folder of the study to join.
        overrides: Of a study that is joined, those of `search.trials`, `.workers`, `.timeout` and `.confirm`.
        force: Whether to resume although code, data or configuration files have changed.
    """
    from funrec.tuning.api import begin, join

    study = begin(overrides) if joined is None else join(joined, overrides, force)
    from funrec.tuning.summary import conclude
    from funrec.tuning.trial import run_study

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
