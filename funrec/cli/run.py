"""`funrec run`: one experiment, or with `-m` every combination."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funrec.cli.arguments import (
    MULTIRUN,
    bring_folders,
    config_folders,
    flags_in,
    has_question,
    overrides_in,
)
from funrec.cli.console import is_live, reason, width
from funrec.utils.errors import InputError

log = logging.getLogger("funrec")


def main(arguments: Sequence[str]) -> int:
    """Run one experiment, or with `-m` every combination; print a table each, and one for a sweep."""
    from funrec.sweeps.schedule import DAILY
    from funrec.sweeps.sweeper import Request

    command = [argument for argument in arguments if argument not in ("--fail-fast", "--dry")]
    if DAILY in command and MULTIRUN.isdisjoint(command) and not has_question(command):  # a job a day
        command.insert(0, "-m")
    if "--dry" in arguments:
        return _describe(command)
    return start(command, Request(command, overrides_in(command), "--fail-fast" in arguments, show=show))


def _describe(arguments: Sequence[str]) -> int:
    """Print what a run would train."""
    from funrec.config.compose import compose
    from funrec.utils.logging import load_tensorflow

    bring_folders(config_folders(arguments))
    config = compose(overrides_in(arguments))
    load_tensorflow()
    from funrec.experiment.dry import describe_run

    print(describe_run(config))
    return 0


def start(arguments: Sequence[str], request: Any) -> int:
    """Hand a command line to Hydra, and return the exit code.

    Args:
        arguments: Of `funrec run`.
        request: What it asks for if it is a sweep: a `funrec.sweeps.sweeper.Request`.
    """
    import hydra

    from funrec.config.compose import CONFIG_MODULE, one_line_errors, reaching_overrides
    from funrec.sweeps.plan import resume_command
    from funrec.sweeps.status import has_failed, not_started, render_sweep
    from funrec.sweeps.sweeper import for_all_jobs, register

    bring_folders(config_folders(arguments))
    register()
    run = _Single(request)
    logging.raiseExceptions = False  # a full disk is reported in one line, not by the log too
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its errors itself, in several lines, and exits 1
    is_sweep = not MULTIRUN.isdisjoint(arguments)
    with one_line_errors(request.overrides):
        left_out = set(request.overrides) - set(for_all_jobs(request.overrides)) if is_sweep else set()
        # Flags first: Hydra's parser takes overrides in one piece only.
        kept = [override for override in overrides_in(arguments) if override not in left_out]
        if (flags := flags_in(arguments)) in (["--cfg", "job"], ["-c", "job"]):
            print(_configuration(kept), end="")
            return 0
        sys.argv = ["funrec run", *flags, *(kept if is_sweep else reaching_overrides(kept))]
        try:
            hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")(run)()
        except FileNotFoundError as error:  # a file system that takes no folders, such as /proc
            if run.is_started:
                raise
            raise InputError(f"{error.filename} cannot be created. Choose another output folder.") from error
    if request.sweep is None:
        return 2 if run.has_failed else 0
    if len(request.sweep.jobs) > 1 or request.resumed or not request.is_watched:
        print(render_sweep(request.sweep, width()), flush=True)
    if (left := not_started(request.sweep)) > 0:
        print(f"{left} jobs were not started. To go on: {resume_command(request.sweep.path)}", file=sys.stderr)
    return 1 if has_failed(request.sweep) else 0


def _configuration(overrides: Sequence[str]) -> str:
    """Return the configuration of a run as YAML, every default spelt out."""
    import yaml

    from funrec.config.compose import compose

    return yaml.safe_dump(compose(overrides), sort_keys=False, allow_unicode=True)


class _Single:
    """What Hydra calls with the configuration of a single run; a sweep finds what was asked of it here."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.is_started = self.has_failed = False

    def __call__(self, config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        from funrec.config.compose import to_plain
        from funrec.experiment import experiment

        self.is_started = True
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        try:
            show(experiment.run_with_baselines(to_plain(config), folder, list(settings.overrides.task), is_live()))
        except (InputError, OSError) as error:
            log.debug("The run failed.", exc_info=True)
            log.error("funrec: %s", reason(error))
            self.has_failed = True


def show(runs: Sequence[Any]) -> None:
    """Print a run and its baselines in one table, and what its configuration asks for beside."""
    from funrec.runs.protocol import render_published
    from funrec.runs.tables import render, render_slices, rows_from_records, selection_note

    print(render(rows_from_records(done.record for done in runs), width=width()), flush=True)
    if published := render_published([done.record for done in runs]):
        print(published, flush=True)
    config = runs[0].record["config"]
    wanted, domain = config["report"], config["dataset"].get("domain")
    if domain is not None and not wanted["slices"]:
        print(render_slices(runs[0].record, of=str(domain)), flush=True)
    if runs[0].record.get("calibration"):
        print(runs[0].calibration(), flush=True)
    for part in ("gates", "diagnosis", "slices"):
        if wanted[part]:
            print(getattr(runs[0], part)(), flush=True)
    if note := selection_note(runs[0].record):
        log.info("%s", note)
    for done in runs:
        log.info("%s", done.path)
