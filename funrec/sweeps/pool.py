"""Jobs in processes of their own, several at a time: started, watched, stopped, buried."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from funrec.runs import folder as run_folder
from funrec.sweeps.shares import environment
from funrec.sweeps.worker import work
from funrec.utils.signals import EXIT_CODE, SIGNALS

#: Seconds after which a signal or the end of a process is noticed at the latest.
INTERVAL = 0.2


def run_folders(
    folders: Iterator[Path],
    workers: int,
    memory: int | None = None,
    preload: bool = True,
    may_start: Callable[[], bool] = lambda: True,
) -> None:
    """Run jobs, each in a process of its own, so many at a time.

    A process that is killed leaves a failed run, with the signal for a reason. Ctrl-C is passed on to the jobs, which
    write a checkpoint and end; a second one kills them.

    Args:
        folders: Run folders, whose configuration is in `.hydra`; the next is asked for when there is room for it.
        workers: Jobs at a time. Threads are divided between so many.
        memory: Bytes that each may allocate; none for no limit.
        preload: Whether jobs are forked from a process that has imported TensorFlow, rather than started anew.
        may_start: Asked before every start.

    Raises:
        KeyboardInterrupt: If a signal came, once all jobs have ended.
    """
    variables = {**os.environ, **environment(workers)}
    start = _process_type(preload)
    running: dict[int, tuple[BaseProcess, Path]] = {}
    with _signals() as received:
        told = 0
        while True:
            while len(running) < workers and not received and may_start():
                if (folder := next(folders, None)) is None:
                    break
                process = start(target=work, args=(folder, variables, memory), name=f"job {folder.name}")
                process.start()
                running[process.sentinel] = process, folder
            if not running:
                break
            ended = wait(list(running), timeout=INTERVAL)
            for sentinel in [sentinel for sentinel in running if sentinel in ended]:
                process, folder = running.pop(sentinel)
                process.join()
                if not received:  # who was told to stop has not failed, however it went
                    _bury(process.exitcode or 0, folder)
            if len(received) > told:
                told = len(received)
                for process, _ in running.values():
                    _signal(process, signal.SIGINT if told == 1 else signal.SIGKILL)
    if received:
        raise KeyboardInterrupt


def warm_up() -> None:
    """Start the process that jobs are forked from: it imports TensorFlow while the sweep is still being planned."""
    multiprocessing.set_forkserver_preload(["funrec.sweeps.preload"])
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    # A Ctrl-C during its imports is for the parent alone. Jobs listen to it again; see `work`.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _process_type(preload: bool) -> type[BaseProcess]:
    if not preload:
        return multiprocessing.get_context("spawn").Process
    warm_up()
    return multiprocessing.get_context("forkserver").Process


def _bury(exit_code: int, folder: Path) -> None:
    """Leave a note where a process ended without one."""
    if exit_code in (0, EXIT_CODE) or run_folder.status(folder).state in ("finished", "failed"):
        return
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        perhaps = ", perhaps for want of memory" if name in ("SIGKILL", "SIGABRT", "SIGBUS", "SIGSEGV") else ""
        run_folder.write_failure(folder, f"killed by {name}{perhaps}")
    else:
        run_folder.write_failure(folder, f"its process ended with exit code {exit_code}; see {folder / 'funrec.log'}")


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, number)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of obeying them; in another thread than the main one, Python has none."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, receive) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
