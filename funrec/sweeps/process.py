"""`hydra/launcher=process`: one operating-system process per job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from funrec.config.compose import save, to_plain
from funrec.sweeps.outcome import has_failed
from funrec.sweeps.plan import read_sweep
from funrec.sweeps.pool import run_folders, warm_up
from funrec.sweeps.shares import default_workers, memory_share
from funrec.utils.errors import InputError


class ProcessLauncher(Launcher):
    """Runs jobs in processes of this machine; see `funrec.sweeps.pool`.

    Args:
        workers: Jobs at a time; none for one per two cores.
        limit_memory: Whether a job that takes more than its share of the memory fails.
        preload: Whether jobs are forked from a process that has imported TensorFlow.
    """

    def __init__(self, workers: int | None = None, limit_memory: bool = True, preload: bool = True) -> None:
        self._workers, self._limit_memory, self._preload = workers, limit_memory, preload

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra composed. The task function is not called: the processes know what a job is.

        Raises:
            InputError: If `workers` is not a positive whole number, or leaves too little memory for each.
        """
        self._context, self._config = hydra_context, config
        if self._workers is None:
            self._workers = default_workers()
        if isinstance(self._workers, bool) or not isinstance(self._workers, int) or self._workers < 1:
            raise InputError(f"hydra.launcher.workers should be a positive whole number. Received: {self._workers}.")
        self._memory = memory_share(self._workers) if self._limit_memory else None
        if self._preload:
            warm_up()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, and return when the last has ended; how it went is in their folders."""
        sweep = read_sweep(self._config.hydra.sweep.dir)
        folders = self._write_configurations(job_overrides, initial_job_idx)

        def may_start() -> bool:
            return not (sweep.fail_fast and has_failed(sweep))

        workers = min(self._workers or 1, len(job_overrides))
        run_folders(folders, workers, self._memory, self._preload, may_start)
        return [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for overrides in job_overrides]

    def _write_configurations(self, job_overrides: Sequence[Sequence[str]], first: int) -> Iterator[Path]:
        """Yield the folder of one job after the other, its configuration in it: a job needs no Hydra."""
        for number, overrides in enumerate(job_overrides, start=first):
            composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.num = composed.hydra.job.id = number
            folder = Path(composed.hydra.sweep.dir, str(composed.hydra.sweep.subdir)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            save(to_plain(composed), [str(asked) for asked in composed.hydra.overrides.task], folder / ".hydra")
            yield folder
