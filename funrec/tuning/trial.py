"""The work on a study: one trial after the other, each an ordinary run in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from funrec.runs.provenance import OriginChanged
from funrec.sweeps.processes import BAD_INPUT, Task, run_processes
from funrec.tuning.results import StudyProgress, say, write_trials
from funrec.tuning.study import EPOCHS, REASON, SECONDS, StudyFolder, TrialFailed
from funrec.utils.errors import InputError, Pruned, causes
from funrec.utils.files import explain, one_line
from funrec.utils.machine import SMALLEST_MEMORY, memory
from funrec.utils.memory import OutOfMemory
from funrec.utils.signals import EXIT_CODE, Interruption

#: Seconds between looks at what other processes do.
INTERVAL = 0.3

#: Worker processes that may end early in a row, without a trial that ended in between.
MOST_DEATHS = 12


def run_study(study: StudyFolder, live: bool = False, force: bool = False) -> None:
    """Work on a study until all its trials are done, in this process or in `search.workers` others.

    Args:
        study: The study.
        live: Whether standard error is a terminal.
        force: Whether to resume trials that were begun with other code or data.

    Raises:
        InputError: If a trial cannot be written, or the workers cannot work.
        KeyboardInterrupt: If it is interrupted; every trial that ran has its checkpoint.
    """
    workers, is_waiting = study.plan.settings.workers, False
    with Interruption():
        progress = StudyProgress(study)
        while True:
            if workers > 1:
                _run_in_workers(study, workers, progress, force)
            else:
                work_on(study, live, force, progress)
            if not (count := study.running):
                return
            if not is_waiting:
                say(f"Waiting for {count} trial{'s' * (count > 1)} that run{'s' * (count == 1)} elsewhere.")
                is_waiting = True
            while study.running and not study.has_work():
                time.sleep(INTERVAL)
                progress.update()


def work_on(study: StudyFolder, live: bool = False, force: bool = False, progress: StudyProgress | None = None) -> None:
    """Run one trial after the other, in this process, until there are none to run."""
    while study.run_next(lambda trial, values: run_trial(study, trial, values, live, force)):
        write_trials(study)
        if progress:
            progress.update()


def run_trial(
    study: StudyFolder, trial: optuna.Trial, values: Mapping[str, Any], live: bool = False, force: bool = False
) -> list[float]:
    """Run or resume a trial, and return its objectives; how it ended and why is in its attributes.

    A full disk fails no trial but stops the study, and so does Ctrl-C: the trial is resumed with the study. An invalid
    configuration as it is (trial 0) stops the study too, since all trials share it.

    Raises:
        TrialFailed: If the trial failed.
        optuna.TrialPruned: If the pruner ended it.
        InputError: If the disk cannot be written or read, the trial was begun with other code or data, or the
            configuration as it is cannot be run.
        KeyboardInterrupt: If the run was interrupted; its checkpoint is written.
    """
    epochs, clock = _Epochs(study, trial), time.monotonic()
    try:
        run = study.run(study.folder(trial.number), study.plan.overrides(values), live, force, epochs)
        objectives = study.plan.settings.objectives
        if missing := [name for name in objectives if name not in run.metrics]:
            trial.set_user_attr(REASON, f"no {missing[0]}: it was not measured")
            raise TrialFailed
        return [run.metrics[name] for name in objectives]
    except Pruned as stop:
        trial.set_user_attr(REASON, str(stop))
        raise optuna.TrialPruned(str(stop)) from stop
    except TrialFailed:
        raise
    except Exception as error:
        if _stops_the_study(error, trial.number):
            raise
        reason = "out of memory" if isinstance(error, OutOfMemory) else one_line(explain(error))
        trial.set_user_attr(REASON, reason)
        raise TrialFailed from error
    finally:
        before = float(trial.user_attrs.get(SECONDS, 0))
        trial.set_user_attr(SECONDS, round(before + time.monotonic() - clock, 1))
        if epochs.last:
            trial.set_user_attr(EPOCHS, epochs.last)


class _Epochs:
    """Counts a trial's epochs, reports the objective after each, and ends the run if the pruner says so.

    Trial 0 is what the others are compared with, and never pruned.
    """

    def __init__(self, study: StudyFolder, trial: optuna.Trial) -> None:
        settings = study.plan.settings
        self.last = 0
        self._metric = next(iter(settings.objectives)) if settings.pruner != "none" else ""
        self._trial, self._reported = trial, set(study.trials[trial.number].intermediate_values)

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.last, value = int(row["epoch"]), row.get(self._metric)
        if value is None or self.last in self._reported:
            return
        self._trial.report(float(value), self.last)
        if self._trial.number and self._trial.should_prune():
            raise Pruned(f"{self._metric} {value:.4f} after epoch {self.last}")


def _stops_the_study(error: BaseException, number: int) -> bool:
    if isinstance(error, OriginChanged) or any(isinstance(cause, OSError) for cause in causes(error)):
        return True
    if number or not isinstance(error, InputError):
        return False
    from funrec.training.state import TrainingDiverged

    return not isinstance(error, TrainingDiverged)  # which says nothing of the other trials


def _run_in_workers(study: StudyFolder, count: int, progress: StudyProgress, force: bool) -> None:
    """Keep so many worker processes at work while there are trials to run."""
    deaths, ended = 0, 0
    logs = study.path / ".workers"
    logs.mkdir(exist_ok=True)

    def next_task() -> Task | None:
        return Task(_work_in_process, (study.path, force), logs / f"{time.time_ns()}.log") if study.has_work() else None

    def on_end(task: Task, exit_code: int) -> None:
        nonlocal deaths
        if exit_code in (0, EXIT_CODE):
            return
        if exit_code == BAD_INPUT:
            lines = task.log.read_text("utf-8", "replace").strip().splitlines()
            raise InputError(lines[-1] if lines else f"A worker stopped without a message. Look at {task.log}.")
        deaths += 1
        if deaths > MOST_DEATHS:
            raise InputError(
                f"Workers should live longer than to die {deaths} times in a row. Look at {task.log}, or try "
                f"search.workers=1."
            )

    def on_look() -> None:
        nonlocal deaths, ended
        if (done := progress.update()) > ended:
            ended, deaths = done, 0

    share = memory() // count
    run_processes(next_task, count, on_end, memory=share if share > SMALLEST_MEMORY else None, on_look=on_look)
    progress.update()


def _work_in_process(path: Path, force: bool) -> None:
    work_on(StudyFolder(path), force=force)
