"""One job in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from funrec.utils.signals import EXIT_CODE

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"  # that of conf/hydra/job_logging


def work(folder: Path, environment: Mapping[str, str], memory: int | None) -> None:
    """Run the job whose configuration is in `folder/.hydra`, and end this process.

    Args:
        folder: The job's run folder.
        environment: All environment variables.
        memory: Bytes that the process may allocate; none for no limit.
    """
    try:
        os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which passes it on
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the process it was forked from ignores it
        Thread(target=_stop_without_parent, name="watching the parent", daemon=True).start()
        os.environ.clear()
        os.environ.update(environment)
        _speak_to_the_log(folder)
        from funrec.config.compose import load
        from funrec.sweeps.job import run_job
        from funrec.sweeps.shares import limit_memory

        if memory is not None:
            limit_memory(memory)
        config, overrides = load(folder / ".hydra")
        run_job(config, folder, overrides)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)


def _stop_without_parent() -> None:
    """Ask the run to stop, as Ctrl-C does, once the process that leads the sweep is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)


def _speak_to_the_log(folder: Path) -> None:
    """Send what this process says to the job's log, and what libraries write past Python as well."""
    path = folder / "funrec.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("funrec").setLevel(logging.DEBUG)
    logging.raiseExceptions = False  # a full disk is said once, by the run
