"""The work on a study: one trial after the other, each an ordinary run in a folder of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from funrec.experiment import experiment
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.provenance import check_origin
from funrec.sweeps.processes import Task, run_processes
from funrec.sweeps.resources import SMALLEST_MEMORY, memory
from funrec.tuning.results import FINISHED, PRUNED, RUNNING, Outcome, duration, outcomes, ranked, write_trials
from funrec.tuning.study import EPOCHS, REASON, SECONDS, STOPPED, StudyFolder, TrialFailed
from funrec.utils.errors import InputError, Pruned, causes
from funrec.utils.files import explain, one_line
from funrec.utils.logging import logging_to
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
    workers = study.plan.settings.workers
    with Interruption(), StudyProgress(study, workers, bar=live and workers > 1) as progress:
        is_waiting = False
        while True:
            if workers > 1:
                _run_in_workers(study, workers, progress, force)
            else:
                work_on(study, live, force, progress)
            if not study.running:
                return
            if not is_waiting:
                count = study.running
                progress.say(f"Waiting for {count} trial{'s' * (count > 1)} that run{'s' * (count == 1)} elsewhere.")
                is_waiting = True
            while study.running and not study.has_work():
                time.sleep(INTERVAL)
                progress.update()


def work_on(study: StudyFolder, live: bool = False, force: bool = False, progress: StudyProgress | None = None) -> None:
    """Run one trial after the other, in this process, until there are none to run."""

    def objective(trial: optuna.Trial, number: int, values: dict[str, Any]) -> list[float]:
        return run_trial(study, trial, number, values, live, force)

    while study.run_next(objective):
        write_trials(study)
        if progress:
            progress.update()


def run_trial(
    study: StudyFolder,
    trial: optuna.Trial,
    number: int,
    values: Mapping[str, Any],
    live: bool = False,
    force: bool = False,
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
    epochs, clock, before = _Epochs(study, trial, number), time.monotonic(), float(trial.user_attrs.get(SECONDS, 0))

    def note(name: str = "", value: Any = None) -> None:
        found = {SECONDS: round(before + time.monotonic() - clock, 1), EPOCHS: epochs.last or None, name: value}
        for key, noted in found.items():
            if noted is not None:
                trial.set_user_attr(key, noted)

    stopped = [*trial.user_attrs.get(STOPPED, []), trial.number]
    try:
        metrics = _run(study, number, study.plan.overrides(values), epochs, live, force)
    except Pruned as stop:
        note(REASON, str(stop))
        raise optuna.TrialPruned(str(stop)) from stop
    except KeyboardInterrupt:
        note(STOPPED, stopped)
        raise
    except Exception as error:
        if _stops_the_study(error, number):
            note(STOPPED, stopped)
            raise
        note(REASON, "out of memory" if isinstance(error, OutOfMemory) else one_line(explain(error)))
        raise TrialFailed from error
    note()
    objectives = study.plan.settings.objectives
    if missing := [name for name in objectives if name not in metrics]:
        note(REASON, f"no {missing[0]}: it was not measured")
        raise TrialFailed
    return [metrics[name] for name in objectives]


def _run(
    study: StudyFolder, number: int, overrides: Sequence[str], epochs: _Epochs, live: bool, force: bool
) -> dict[str, float]:
    folder = study.folder(number)
    folder.mkdir(exist_ok=True)
    if run_folder.is_finished(folder):  # its process died before the storage knew
        return dict(record.read(folder)["metrics"])
    is_begun = run_folder.status(folder).state != "absent"
    config = study.plan.compose(overrides) | {"baselines": False}
    try:
        check_origin(config, folder, force)
    except InputError as error:
        raise NotResumed(str(error)) from error
    with logging_to(folder, verbose=False):
        return experiment.run(config, folder, overrides, live, resume=is_begun, force=force, on_epoch=epochs).metrics


class NotResumed(InputError):
    """A trial was begun with other code, data or configuration than there are now."""


class _Epochs:
    """Counts a trial's epochs, reports the objective after each, and ends the run if the pruner says so.

    Trial 0 is what the others are compared with, and never pruned.
    """

    def __init__(self, study: StudyFolder, trial: optuna.Trial, number: int) -> None:
        settings = study.plan.settings
        self.last = 0
        self._metric = next(iter(settings.objectives)) if settings.pruner != "none" else ""
        self._trial, self._number = trial, number
        self._reported = set(study.reported(trial))

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.last, value = int(row["epoch"]), row.get(self._metric)
        if value is None or self.last in self._reported:
            return
        self._trial.report(float(value), self.last)
        if self._number and self._trial.should_prune():
            raise Pruned(f"{self._metric} {value:.4f} after epoch {self.last}")


def _stops_the_study(error: BaseException, number: int) -> bool:
    if isinstance(error, NotResumed) or any(isinstance(cause, OSError) for cause in causes(error)):
        return True
    if number or not isinstance(error, InputError):
        return False
    from funrec.training.state import TrainingDiverged

    return not isinstance(error, TrainingDiverged)  # which says nothing of the other trials


def _run_in_workers(study: StudyFolder, count: int, progress: StudyProgress, force: bool) -> None:
    """Keep so many worker processes at work while there are trials to run."""
    started, deaths, ended = 0, 0, 0
    logs = study.path / ".workers"
    logs.mkdir(exist_ok=True)

    def next_task() -> Task | None:
        nonlocal started
        if not study.has_work():
            return None
        started += 1
        return Task(_work_in_process, (study.path, force), logs / f"{time.time_ns()}_{started}.log")

    def on_end(task: Task, exit_code: int) -> None:
        nonlocal deaths
        if exit_code in (0, EXIT_CODE):
            return
        if exit_code == 2:  # see `funrec.sweeps.processes.BAD_INPUT`
            raise InputError(_last_line(task.log))
        deaths += 1
        if deaths > MOST_DEATHS:
            raise InputError(
                f"Workers should live longer than to die {deaths} times in a row. Look at {task.log}, or try "
                f"search.workers=1."
            )

    def on_look() -> None:
        nonlocal deaths, ended
        progress.update()
        done = sum(outcome.state != RUNNING for outcome in outcomes(study))
        if done > ended:
            ended, deaths = done, 0

    share = memory() // count
    run_processes(next_task, count, on_end, memory=share if share > SMALLEST_MEMORY else None, on_look=on_look)
    progress.update()


def _work_in_process(path: Path, force: bool) -> None:
    work_on(StudyFolder(path), force=force)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"A worker stopped without a message. Look at {log}."


class StudyProgress:
    """Reports every trial's end once, with the best so far and the time left, on standard error.

    Args:
        study: The study.
        workers: Processes that work on it.
        bar: Whether to draw a bar below the lines.
    """

    def __init__(self, study: StudyFolder, workers: int, bar: bool = False) -> None:
        self._study, self._workers = study, workers
        self._said = {outcome.number for outcome in outcomes(study) if outcome.state != RUNNING}
        self._bar: Progress | None = None
        if bar:
            columns = (TextColumn("trials"), BarColumn(bar_width=20), MofNCompleteColumn())
            text = TextColumn("{task.fields[text]}")
            self._bar = Progress(*columns, text, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=study.total, text="")

    def __enter__(self) -> StudyProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._bar:
            self._bar.stop()

    def update(self) -> None:
        """Report what has ended since the last time."""
        found = outcomes(self._study)
        ended = [outcome for outcome in found if outcome.state != RUNNING]
        summary = self._summary(found, len(ended))
        for outcome in ended:
            if outcome.number not in self._said:
                self._said.add(outcome.number)
                self.say(f"trial {outcome.number}: {self._describe(outcome)} ({summary})")
        if self._bar:
            running = len(found) - len(ended)
            self._bar.update(self._task, completed=len(ended), text=f"{running} running, {summary}")

    def say(self, text: str) -> None:
        """Write a line, above the bar if there is one."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  # progress, not a result

    def _describe(self, outcome: Outcome) -> str:
        took = "" if outcome.seconds is None else f", {duration(outcome.seconds)}"
        if outcome.state == FINISHED:
            names = self._study.plan.settings.objectives
            return ", ".join(f"{name} {value:.4f}" for name, value in zip(names, outcome.values, strict=True)) + took
        return f"{outcome.state}{took}: {outcome.reason}"

    def _summary(self, found: Sequence[Outcome], ended: int) -> str:
        parts = [f"{ended} of {self._study.total} done"]
        if best := ranked(self._study, found):
            if len(front := self._study.best_numbers) > 1 and len(best[0].values) > 1:
                parts.append(f"{len(front)} in the Pareto set")
            else:
                parts.append(f"best {best[0].values[0]:.4f} of trial {best[0].number}")
        spent = [outcome.seconds for outcome in found if outcome.seconds and outcome.state in (FINISHED, PRUNED)]
        left = self._study.total - ended
        if spent and left:
            parts.append(f"about {duration(sum(spent) / len(spent) * left / min(self._workers, left))} left")
        return ", ".join(parts)
