"""One trial: an ordinary run in a folder of its own, and what Optuna is told of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from funrec.experiment import experiment
from funrec.runs import folder as run_folder
from funrec.runs import record
from funrec.runs.provenance import check_origin
from funrec.tuning.study import EPOCHS, REASON, SECONDS, StudyFolder, Work
from funrec.utils.errors import InputError, Pruned, causes
from funrec.utils.files import explain, one_line
from funrec.utils.logging import logging_to
from funrec.utils.memory import OutOfMemory


def run_trial(study: StudyFolder, work: Work, live: bool = False, force: bool = False) -> None:
    """Run what a trial describes, go on with it if it was begun, and tell the study how it ended.

    A trial that fails is told as failed, with its reason. A full disk fails no trial but stops the study, and so does
    whoever presses Ctrl-C: the trial then waits for somebody who goes on with it. What is wrong with the configuration
    as it is, is wrong with all trials, and stops the study too; that it diverges says nothing of the others.

    Args:
        study: The study.
        work: The trial.
        live: Whether to draw progress on the terminal.
        force: Whether to go on with a trial that was begun with other code or data.

    Raises:
        InputError: If the disk cannot be written or read, the trial was begun with other code or data, or the
            configuration as it is cannot be run.
        KeyboardInterrupt: If somebody stops the run; its checkpoint is written.
    """
    epochs, clock = _Epochs(study, work), time.monotonic()

    def spent() -> dict[str, Any]:
        seconds = float(work.trial.user_attrs.get(SECONDS, 0)) + time.monotonic() - clock
        return {SECONDS: round(seconds, 1)} | ({EPOCHS: epochs.last} if epochs.last else {})

    try:
        found = _run(study, work, epochs, live, force)
    except Pruned as stop:
        study.tell(work, TrialState.PRUNED, {REASON: str(stop), **spent()})
    except KeyboardInterrupt:
        study.give_back(work, spent())
        raise
    except Exception as error:
        if _stops_the_study(error, work):
            study.give_back(work, spent())
            raise
        study.tell(work, TrialState.FAIL, {REASON: _explain(error), **spent()})
    else:
        objectives = study.plan.settings.objectives
        if missing := [name for name in objectives if name not in found["metrics"]]:
            why = (found.get("absent") or {}).get(missing[0], "it was not measured")
            study.tell(work, TrialState.FAIL, {REASON: f"no {missing[0]}: {why}", **spent()})
        else:
            study.tell(work, TrialState.COMPLETE, spent(), [found["metrics"][name] for name in objectives])


def _run(study: StudyFolder, work: Work, epochs: _Epochs, live: bool, force: bool) -> Mapping[str, Any]:
    folder = study.folder(work.trial.number)
    folder.mkdir(exist_ok=True)
    state = run_folder.status(folder).state
    if state == "finished":  # its process died before it could tell
        return record.read(folder)
    overrides = study.plan.overrides(work.values)
    config = study.plan.compose(overrides) | {"baselines": False}
    try:
        check_origin(config, folder, force)
    except InputError as error:
        raise NotContinued(str(error)) from error
    with logging_to(folder, verbose=False):
        return experiment.run(
            config, folder, overrides, live, resume=state != "absent", force=force, on_epoch=epochs
        ).record


class NotContinued(InputError):
    """A trial was begun with other code, data or configuration than there are now."""


class _Epochs:
    """Counts a trial's epochs, tells Optuna the objective after each, and ends the run if the pruner says so.

    Trial 0 is what the others are compared with, and never pruned.
    """

    def __init__(self, study: StudyFolder, work: Work) -> None:
        settings = study.plan.settings
        self.last = 0
        self._metric = next(iter(settings.objectives)) if settings.pruner != "none" else ""
        self._trial = work.trial
        self._reported = set(study.reported(work.trial.number))

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.last, value = int(row["epoch"]), row.get(self._metric)
        if value is None or self.last in self._reported:
            return
        self._trial.report(float(value), self.last)
        if self._trial.number and self._trial.should_prune():
            raise Pruned(f"{self._metric} {value:.4f} after epoch {self.last}")


def _explain(error: BaseException) -> str:
    if isinstance(error, OutOfMemory):
        return "out of memory"
    return one_line(explain(error))


def _stops_the_study(error: BaseException, work: Work) -> bool:
    if isinstance(error, NotContinued) or any(isinstance(cause, OSError) for cause in causes(error)):
        return True
    if work.trial.number or not isinstance(error, InputError):
        return False
    from funrec.training.state import TrainingDiverged

    return not isinstance(error, TrainingDiverged)
