"""One job of a sweep: an ordinary run whose failure stays in its folder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from funrec.config.compose import load, to_plain
from funrec.experiment import experiment
from funrec.experiment.run import Run
from funrec.runs.folder import status, write_failure
from funrec.sweeps.plan import sweep_of
from funrec.sweeps.status import has_failed
from funrec.utils.files import explain

log = logging.getLogger("funrec")

#: Hydra's name for the launcher that runs jobs one after the other, in this process.
SERIAL = "basic"

Show = Callable[[Sequence[Run]], None]


def run_hydra_job(config: DictConfig, show: Show | None = None) -> None:
    """Run a job that Hydra composed, in this process or in one of a launcher's.

    It can be pickled by name and depends on nothing in the memory of the process that planned the sweep.

    Args:
        config: What Hydra composed.
        show: Prints the runs of the job; without it, the job writes to its log alone.
    """
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    if show is None:
        root = logging.getLogger()  # to its file alone: jobs that run at the same time would mix their lines
        root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]
        if os.path.isdir(settings.runtime.cwd):  # relative paths start from where the sweep was started
            os.chdir(settings.runtime.cwd)
    live = show is not None and sys.stderr.isatty()
    runs = run_job(to_plain(config), folder, list(settings.overrides.task), live)
    if show is not None and runs:
        show(runs)


def run_job_in(folder: Path) -> None:
    """Run the job whose configuration is in `folder/.hydra`."""
    config, overrides = load(folder / ".hydra")
    run_job(config, folder, overrides)


def run_job(config: Mapping[str, Any], folder: Path, overrides: Sequence[str], live: bool = False) -> list[Run]:
    """Run or resume a job. A failure is written to its folder and log and not raised, so the other jobs go on.

    All it needs beside its arguments, which are those of `experiment.run`, is in the sweep's folder, so it may run in
    any process.

    Returns:
        The run, and its baselines after it; nothing if it failed or was not to start.

    Raises:
        KeyboardInterrupt: If it was interrupted; it has a checkpoint then.
    """
    found = sweep_of(folder)
    try:
        if found is None:
            return experiment.run_with_baselines(config, folder, overrides, live)
        sweep, job = found
        if sweep.fail_fast and has_failed(sweep):
            log.info("Not started: another job has failed.")
            return []
        config = {**config, "baselines": job.baselines}
        return experiment.run_with_baselines(config, folder, overrides, live, resume=True, force=sweep.force)
    except Exception as error:
        log.debug("The run failed.", exc_info=True)  # the sweep reports the reason; see `funrec.sweeps.status`
        if status(folder).state not in ("finished", "running"):
            write_failure(folder, explain(error))
        return []
