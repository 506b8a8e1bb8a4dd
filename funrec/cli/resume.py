"""`funrec resume`: resume what was stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from funrec.cli.arguments import Parser, add_folder_option, bring_folders, overrides_in, take_allowed
from funrec.cli.console import is_live
from funrec.utils.errors import InputError

LAUNCHER = ("hydra/launcher", "hydra.launcher")


def main(arguments: Sequence[str]) -> int:
    """Resume a run, a sweep or a study of `funrec tune`, and print its table."""
    parser = Parser(
        prog="funrec resume",
        description="Resume what was stopped: finished runs stay, interrupted ones continue, failed ones start again.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's folder, a sweep's or a study's")
    parser.add_argument(
        "--force",
        action="store_true",
        help="resume although the configuration, the data or the code has changed; finished runs stay",
    )
    add_folder_option(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="where to run, such as hydra/launcher=process")
    options = parser.parse_intermixed_args(arguments)
    path: Path = options.path
    bring_folders(options.config_dir)
    if (path / "study.json").is_file():
        from funrec.cli.tune import carry_out

        return carry_out(path, options.overrides, options.force)
    from funrec.sweeps.plan import is_sweep

    if is_sweep(path):
        return _resume_sweep(path, options.force, options.overrides)
    if options.overrides:
        raise InputError(f"A run resumes with the configuration it has. Received: {' '.join(options.overrides)}.")
    from funrec.cli.run import show
    from funrec.experiment.api import resume

    show(resume(path, force=options.force, live=is_live(), verbose=True))
    return 0


def _resume_sweep(path: Path, force: bool, more: Sequence[str]) -> int:
    from funrec.cli.run import show, start
    from funrec.config.build import allow
    from funrec.config.overrides import quoted
    from funrec.sweeps.plan import read_sweep
    from funrec.sweeps.sweeper import Request

    if others := [override for override in more if not _key(override).startswith(LAUNCHER)]:
        raise InputError(
            f"A sweep's jobs are what they were planned to be; only hydra/launcher and hydra.launcher.* can change. "
            f"Received: {others[0]}."
        )
    sweep, path = read_sweep(path), path.resolve()
    if os.path.isdir(sweep.started_in):
        os.chdir(sweep.started_in)
    allow(sweep.allow.split(","))
    arguments = take_allowed(sweep.command)
    keys = {_key(override) for override in more}
    # Another launcher has no use for the settings of the one before.
    dropped = LAUNCHER if "hydra/launcher" in keys else ()
    replaced = {*keys, "hydra.sweep.dir"}
    kept = [old for old in arguments if _key(old) not in replaced and not _key(old).startswith(dropped)]
    request = Request(sweep.command, overrides_in(kept), sweep.fail_fast, path, force, show)
    return start([*kept, *more, f"hydra.sweep.dir={quoted(str(path))}"], request)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
