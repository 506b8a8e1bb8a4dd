"""What a person sees while a study runs: a line per trial, and on a terminal with several processes a bar."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from funrec.tuning.results import FINISHED, PRUNED, RUNNING, Outcome, outcomes, pareto, ranked
from funrec.tuning.study import StudyFolder


class StudyProgress:
    """Says every trial's end once, with the best so far and the time left. Writes to standard error only.

    Args:
        study: The study.
        workers: Processes that work on it.
        bar: Whether to draw a bar below the lines.
    """

    def __init__(self, study: StudyFolder, workers: int, bar: bool = False) -> None:
        self._study, self._workers = study, workers
        self._said = {outcome.number for outcome in outcomes(study) if outcome.state != RUNNING}
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if bar:
            self._bar = Progress(
                TextColumn("trials"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=study.total, text="")

    def __enter__(self) -> StudyProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._bar:
            self._bar.stop()

    def update(self) -> None:
        """Say what has ended since the last time."""
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
        signs = self._study.plan.settings.signs
        if len(signs) > 1 and (front := pareto(found, signs)):
            parts.append(f"{len(front)} in the Pareto set")
        elif best := ranked(found, signs):
            parts.append(f"best {best[0].values[0]:.4f} of trial {best[0].number}")
        spent = [outcome.seconds for outcome in found if outcome.seconds and outcome.state in (FINISHED, PRUNED)]
        left = self._study.total - ended
        if spent and left:
            parts.append(f"about {duration(sum(spent) / len(spent) * left / min(self._workers, left))} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
