"""What Hydra's launchers call: a job of a sweep, in this process or in any other."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from funrec.config.compose import to_plain
from funrec.experiment.run import Run
from funrec.sweeps.job import run_job

#: Hydra's name for the launcher that runs jobs one after the other, in the process that somebody watches.
SERIAL = "basic"

Show = Callable[[Sequence[Run]], None]


def run_hydra_job(config: DictConfig, show: Show | None = None) -> None:
    """Run a job as Hydra composed it; what goes wrong stays in its folder.

    It can be pickled by name and depends on nothing in the memory of the process that planned the sweep.

    Args:
        config: What Hydra composed.
        show: Shows what ran where somebody watches; without it, the job speaks to its log alone.
    """
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    if show is None:
        _keep_to_the_log()
        if os.path.isdir(settings.runtime.cwd):  # relative paths begin where the sweep was started
            os.chdir(settings.runtime.cwd)
    live = show is not None and sys.stderr.isatty()
    runs = run_job(to_plain(config), folder, list(settings.overrides.task), live)
    if show is not None and runs:
        show(runs)


def _keep_to_the_log() -> None:
    """Take the console from the log: jobs that run at the same time would talk at once."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if not isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
