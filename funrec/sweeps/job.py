"""One job of a sweep: an ordinary run that keeps its troubles to itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from funrec.experiment import experiment
from funrec.experiment.run import Run
from funrec.runs import folder as run_folder
from funrec.sweeps.outcome import has_failed
from funrec.sweeps.plan import sweep_of
from funrec.utils.files import explain

log = logging.getLogger("funrec")


def run_job(config: Mapping[str, Any], folder: Path, overrides: Sequence[str], live: bool = False) -> list[Run]:
    """Run a job, or go on with it where it stopped; whatever goes wrong stays in its folder.

    The traceback goes to the job's own log, the reason to its folder, and nothing is raised, so that the other jobs
    go on. All it needs beside its arguments is in the sweep's folder: it may run in any process.

    Args:
        config: The resolved configuration, plain values.
        folder: The job's run folder.
        overrides: What was asked for on top of the defaults.
        live: Whether to draw progress on the terminal.

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
        log.debug("The run failed.", exc_info=True)
        log.error("funrec: %s", explain(error))
        if run_folder.status(folder).state not in ("finished", "running"):
            run_folder.write_failure(folder, explain(error))
        return []
