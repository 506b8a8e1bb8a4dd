"""What a person sees while a model trains: a live line on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("funrec")


class TrainingProgress:
    """Shows epoch, speed, losses and time left. Writes to standard error only.

    Args:
        tasks: Names of the tasks.
        total_steps: Steps of the whole training, unless it stops early.
        live: Whether to draw a live line; plain log lines, one per epoch, otherwise.
    """

    def __init__(self, tasks: Sequence[str], total_steps: int, live: bool) -> None:
        self.tasks = list(tasks)
        self._live: Progress | None = None
        if live:
            self._live = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}  {task.fields[losses]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar = self._live.add_task("", total=total_steps, epoch=1, speed="", losses="")

    def __enter__(self) -> TrainingProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live:
            self._live.stop()

    def skip(self, steps: int) -> None:
        """Show steps that were taken before: no speed and no time left follow from them."""
        if self._live and steps:
            self._live.reset(self._bar, completed=steps)

    def advance(self, epoch: int, steps: int, rows_per_second: float, losses: np.ndarray, weights: np.ndarray) -> None:
        """Show a finished block: its mean losses and weights `(tasks,)`."""
        if self._live:
            self._live.update(
                self._bar,
                advance=steps,
                epoch=epoch + 1,
                speed=f"{rows_per_second:,.0f} rows/s",
                losses=self._losses(losses, weights),
            )

    def end_epoch(self, row: Mapping[str, Any], monitor: str) -> None:
        """Show a finished epoch, as its row of the history has it."""
        losses = np.array([row[f"loss_{task}"] for task in self.tasks])
        weights = np.array([row[f"weight_{task}"] for task in self.tasks])
        text = (
            f"epoch {row['epoch']}: {self._losses(losses, weights)}"
            + (f", {monitor} {row[monitor]:.4f}" if monitor in row else "")
            + f", {row['rows_per_second']:,.0f} rows/s"
        )
        self.say(text)

    def say(self, text: str) -> None:
        """Log a line; where there is a live line, show it above, since on the console a log line would run into it."""
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        log.log(logging.DEBUG if self._live else logging.INFO, "%s", text)

    def _losses(self, losses: np.ndarray, weights: np.ndarray) -> str:
        return " ".join(
            f"{task} {loss:.4f}" + ("" if weight == 1 else f" (x{weight:.2g})")
            for task, loss, weight in zip(self.tasks, losses, weights, strict=True)
        )
