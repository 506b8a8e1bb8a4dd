"""A pool of processes for the jobs of a sweep and the workers of a study, and `hydra/launcher=process` on top of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from funrec.config.compose import save, to_plain
from funrec.runs.folder import status, write_failure
from funrec.sweeps.plan import read_sweep
from funrec.sweeps.status import has_failed
from funrec.utils.errors import InputError
from funrec.utils.logging import FORMAT
from funrec.utils.machine import default_workers, environment, limit_memory, memory_per_worker
from funrec.utils.signals import EXIT_CODE, Interruption

#: Seconds after which a signal or the end of a process is noticed at the latest.
INTERVAL = 0.2

#: The exit code of a process that raised an `InputError`, the last line of its log; see `funrec.cli.main`.
BAD_INPUT = 2


@dataclass(frozen=True)
class Task:
    """Work for a process of its own.

    Attributes:
        call: A function of some module, which need not be imported before the process calls it.
        arguments: Its arguments.
        log: The file that the process writes to.
    """

    call: Callable[..., None]
    arguments: tuple[Any, ...]
    log: Path


def run_processes(
    next_task: Callable[[], Task | None],
    workers: int,
    on_end: Callable[[Task, int], None],
    *,
    memory: int | None = None,
    preload: bool = True,
    on_look: Callable[[], None] = lambda: None,
) -> None:
    """Run tasks, each in a process of its own, several at a time, until there are no more.

    Ctrl-C is passed on to the processes, which write a checkpoint and end; a second one kills them. They also stop
    when this process dies.

    Args:
        next_task: Returns a task to start now, or None; asked whenever there is room for one.
        workers: Processes at a time. Threads are divided between so many.
        on_end: Called with a task and its process's exit code, negative for a signal. What it raises stops the others.
        memory: Bytes that each process may allocate; None for no limit.
        preload: Whether to fork processes from one that has imported TensorFlow, rather than start each anew.
        on_look: Called every `INTERVAL` seconds.

    Raises:
        KeyboardInterrupt: If a signal came, once all processes have ended.
    """
    variables = {**os.environ, **environment(workers)}
    if preload:
        warm_up()
    context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
    running: dict[int, tuple[BaseProcess, Task]] = {}
    to_the_rest = signal.SIGINT
    with Interruption() as interruption:
        is_told = False
        try:
            with interruption.deferred():
                while True:
                    while len(running) < workers and not interruption.is_requested and (task := next_task()):
                        name = f"funrec {task.log.parent.name}"
                        process = context.Process(target=_enter, args=(task, variables, memory), name=name)
                        process.start()
                        running[process.sentinel] = process, task
                    if not running:
                        break
                    ended = wait(list(running), timeout=INTERVAL)
                    on_look()
                    for sentinel in [sentinel for sentinel in running if sentinel in ended]:
                        process, task = running.pop(sentinel)
                        process.join()
                        if not interruption.is_requested:  # what was told to stop has not failed
                            on_end(task, process.exitcode or 0)
                    if interruption.is_requested and not is_told:
                        is_told = True
                        for process, _ in running.values():
                            _signal(process, signal.SIGINT)
        except KeyboardInterrupt:  # a second one, if processes run still
            to_the_rest = signal.SIGKILL
            raise
        finally:
            for process, _ in running.values():  # only if something was raised
                _signal(process, to_the_rest)
            for process, _ in running.values():
                process.join()


def warm_up() -> None:
    """Start the process that others are forked from: it imports TensorFlow while the sweep is still being planned."""
    multiprocessing.set_forkserver_preload(["funrec.sweeps.preload"])
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    # A Ctrl-C during its imports is for the parent alone. The forked processes listen to it again; see `_enter`.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


class ProcessLauncher(Launcher):
    """Runs jobs in processes of this machine.

    Args:
        workers: Jobs at a time; None for one per two cores.
        limit_memory: Whether a job that takes more than an equal part of the memory fails.
        preload: Whether jobs are forked from a process that has imported TensorFlow.
    """

    def __init__(self, workers: int | None = None, limit_memory: bool = True, preload: bool = True) -> None:
        self._workers, self._limit_memory, self._preload = workers, limit_memory, preload

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra composed. The task function is not called: `run_job_in` is."""
        self._context, self._config = hydra_context, config
        if self._workers is None:
            self._workers = default_workers()
        if isinstance(self._workers, bool) or not isinstance(self._workers, int) or self._workers < 1:
            raise InputError(f"hydra.launcher.workers should be a positive whole number. Received: {self._workers}.")
        self._memory = memory_per_worker(self._workers) if self._limit_memory else None
        if self._preload:
            warm_up()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, and return when the last has ended; how each went is in its folder."""
        sweep = read_sweep(self._config.hydra.sweep.dir)
        tasks = self._tasks(job_overrides, initial_job_idx)

        def next_task() -> Task | None:
            return None if sweep.fail_fast and has_failed(sweep) else next(tasks, None)

        workers = min(self._workers or 1, len(job_overrides))
        run_processes(next_task, workers, _note_death, memory=self._memory, preload=self._preload)
        return [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for overrides in job_overrides]

    def _tasks(self, job_overrides: Sequence[Sequence[str]], first: int) -> Iterator[Task]:
        """Yield the jobs, the configuration of each in its folder, so that it needs no Hydra."""
        for number, overrides in enumerate(job_overrides, start=first):
            composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.num = composed.hydra.job.id = number
            folder = Path(composed.hydra.sweep.dir, str(composed.hydra.sweep.subdir)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            save(to_plain(composed), [str(asked) for asked in composed.hydra.overrides.task], folder / ".hydra")
            yield Task(_run_job, (folder,), folder / "funrec.log")


def _run_job(folder: Path) -> None:
    from funrec.sweeps.jobs import run_job_in

    run_job_in(folder)


def _note_death(task: Task, exit_code: int) -> None:
    """Write a failure note for a job whose process ended without one."""
    folder = task.log.parent
    if exit_code in (0, EXIT_CODE) or status(folder).state in ("finished", "failed"):
        return
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        perhaps = ", perhaps for want of memory" if name in ("SIGKILL", "SIGABRT", "SIGBUS", "SIGSEGV") else ""
        write_failure(folder, f"killed by {name}{perhaps}")
    else:
        write_failure(folder, f"its process ended with exit code {exit_code}; see {task.log}")


def _enter(task: Task, variables: Mapping[str, str], memory: int | None) -> None:
    """Carry out a task in a new process, and end the process."""
    try:
        os.setsid()  # a terminal's Ctrl-C reaches the parent alone, which passes it on
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the process it was forked from ignores it
        threading.Thread(target=_stop_without_parent, name="funrec-parent", daemon=True).start()
        os.environ.clear()
        os.environ.update(variables)
        _log_to(task.log)
        if memory is not None:
            limit_memory(memory)
        task.call(*task.arguments)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    except InputError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the task's log here
        sys.exit(BAD_INPUT)


def _stop_without_parent() -> None:
    """Stop this process, as Ctrl-C does, when its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)


def _log_to(path: Path) -> None:
    """Send this process's messages to a file, and also what libraries write past Python."""
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
    logging.raiseExceptions = False  # a full disk is reported once, by the run


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, number)
